"""New items get vectors in the space that was trained, and what cannot be read is refused."""

import io

import numpy as np
import pytest
import soundfile
from joint_material import RATE, TINY, digit_data, images, melody, sounds
from PIL import Image

from aura.embeddings.encoder import Encoder, SharedSpace
from aura.embeddings.errors import EncodingError
from aura.embeddings.joint.data import JointData, JointItem
from aura.embeddings.joint.features import Featurizer
from aura.embeddings.joint.sizes import FeatureSettings
from aura.embeddings.joint.training import train_joint_model


def wave(samples):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples.astype(np.float32), RATE, format="WAV")
    return buffer.getvalue()


def test_a_joint_model_is_a_shared_space_with_an_encoder_per_modality(joint_model):
    space: SharedSpace = joint_model
    assert space.modalities == ("text", "image", "audio")
    for modality in space.modalities:
        encoder: Encoder = space.encoder(modality)
        assert encoder.fingerprint == space.fingerprint
        assert (encoder.model.name, encoder.model.fingerprint) == (space.name, space.fingerprint)
        assert encoder.model.dimension == joint_model.card.config.width
    with pytest.raises(EncodingError, match="trained without 'video'"):
        space.encoder("video")


def test_vectors_have_length_one_and_are_the_same_each_time(joint_model):
    contents = {
        "text": ["zero", "nine", "a text that is longer than any that the model was trained on"],
        "image": [item.content for item in images(20)],
        "audio": [item.content for item in sounds(1)],
    }
    for modality, inputs in contents.items():
        done = []
        one = joint_model.encoder(modality).encode(inputs, lambda *progress: done.append(progress))  # noqa: B023
        other = joint_model.encoder(modality).encode(inputs)
        assert one.vectors.shape == (len(inputs), joint_model.card.config.width)
        assert one.vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(one.vectors, axis=1), 1, rtol=1e-5)
        assert one.vectors.tobytes() == other.vectors.tobytes()
        assert done == [(len(inputs), len(inputs))]
    assert joint_model.encoder("text").encode(contents["text"]).truncated == 1


def test_what_cannot_be_read_is_refused_by_its_place(joint_model):
    good, sound = images(1)[0].content, sounds(1)[0].content
    image = joint_model.encoder("image").encode([b"", good, b"\x89PNG", good])
    assert sorted(image.refused) == [0, 2]
    assert "cannot be decoded as an image" in image.refused[2]
    assert len(image.vectors) == 2
    audio = joint_model.encoder("audio").encode([sound, b"RIFF", wave(np.empty(0)), good])
    assert sorted(audio.refused) == [1, 2, 3]
    assert len(audio.vectors) == 1
    for modality in joint_model.modalities:
        assert joint_model.encoder(modality).encode([]).vectors.shape == (0, joint_model.card.config.width)
    assert joint_model.encoder("image").encode([b"no"]).vectors.shape == (0, joint_model.card.config.width)


def test_images_of_any_size_and_colour_and_silence_have_vectors(joint_model):
    buffer = io.BytesIO()
    Image.new("RGBA", (300, 20), (200, 10, 10, 128)).save(buffer, format="PNG")
    assert not joint_model.encoder("image").encode([buffer.getvalue()]).refused
    encoded = joint_model.encoder("audio").encode([wave(np.zeros(RATE)), wave(np.ones(1))])
    assert np.isfinite(encoded.vectors).all()
    assert not encoded.refused


def test_a_long_sound_is_heard_in_windows_that_are_pooled(joint_model):
    rng = np.random.default_rng(1)
    word = melody(4, 330.0, rng)
    samples, _ = soundfile.read(io.BytesIO(word))
    encoder = joint_model.encoder("audio")
    long = encoder.encode([word, wave(np.tile(samples, 12)), word])
    assert long.chunked == 1
    assert long.truncated == 0
    assert long.vectors.shape[0] == 3
    assert long.vectors[0] @ long.vectors[1] > 0.5
    np.testing.assert_allclose(long.vectors[0], long.vectors[2], atol=1e-5)
    features = Featurizer(joint_model.card.features).features("audio", [wave(np.tile(samples, 12))], max_windows=2)
    assert (len(features.inputs), features.truncated) == (2, 1)


def test_sizes_suit_the_data():
    large = io.BytesIO()
    Image.effect_noise((90, 50), 60).convert("RGB").save(large, format="PNG")
    red = io.BytesIO()
    Image.new("RGB", (40, 40), (255, 0, 0)).save(red, format="PNG")
    data = JointData(
        {
            "image": (JointItem("a", large.getvalue(), "x"), JointItem("b", red.getvalue(), "x")),
            "audio": (JointItem("c", wave(np.zeros(20 * RATE)), "x"),),
            "text": (JointItem("d", "word " * 50, "x"),),
        }
    )
    settings = FeatureSettings.suiting(data, TINY)
    assert (settings.image_size, settings.image_channels) == (32, 3)
    assert (settings.rate, settings.frames) == (8000, 250)
    assert settings.text_length == TINY.max_text_bytes + 2


def test_a_model_of_large_coloured_images_and_long_sounds_is_trained_the_same_way():
    rng = np.random.default_rng(0)
    made = {"image": [], "audio": []}
    for number in range(60):
        tint = (255, 40, 40) if number % 2 else (40, 40, 255)
        image = Image.blend(Image.new("RGB", (48, 40), tint), Image.effect_noise((48, 40), 90).convert("RGB"), 0.3)
        buffer = io.BytesIO()
        image.save(buffer, format="PNG")
        made["image"].append(JointItem(f"i{number}", buffer.getvalue(), "red" if number % 2 else "blue"))
        tone = np.sin(np.arange(6 * RATE) * (0.3 if number % 2 else 0.9)) * 0.3 + rng.normal(0, 0.05, 6 * RATE)
        made["audio"].append(JointItem(f"a{number}", wave(tone), "red" if number % 2 else "blue"))
    data = JointData({**{modality: tuple(items) for modality, items in made.items()}, "text": digit_texts()})
    card = train_joint_model(data, config=TINY).card
    assert card.features.image_channels == 3
    assert len(card.evaluation.retrieval) == 6


def digit_texts():
    names = digit_data(image_count=0, takes=0).items["text"][:2]
    return tuple(
        JointItem(item.item_id, concept, concept) for item, concept in zip(names, ("red", "blue"), strict=True)
    )
