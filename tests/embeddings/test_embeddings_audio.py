"""Sounds become the unit vectors that the audio model gives, in windows where they are long."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from embeddings_tiny_models import save_clap, save_joint_clip, save_text_model, save_wav2vec2, save_whisper
from test_embeddings_sound import sound_file, tone

from aura.embeddings.audio import open_audio_encoder
from aura.embeddings.errors import EncodingError
from aura.embeddings.sound import decode_sound

KINDS = {"whisper": save_whisper, "clap": save_clap, "wav2vec2": save_wav2vec2}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("audio-models")
    return {kind: save(root / kind) for kind, save in KINDS.items()}


def encoder_of(directory, **options):
    return open_audio_encoder(str(directory), device="cpu", **({"dtype": "float32"} | options))


def unit(vectors: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(vectors, dim=-1).detach().numpy()


SOUNDS = [sound_file(tone(0.4)), sound_file(tone(0.9, 16_000, 300.0), 16_000, "FLAC"), sound_file(tone(0.05))]


def test_without_weights_there_is_no_encoder():
    assert open_audio_encoder(None) is None


def test_whisper_gives_the_mean_of_the_states_that_hold_sound(models):
    from transformers import WhisperFeatureExtractor, WhisperModel

    vectors = encoder_of(models["whisper"]).encode(SOUNDS).vectors
    encoder = WhisperModel.from_pretrained(models["whisper"]).encoder.eval()
    extractor = WhisperFeatureExtractor.from_pretrained(models["whisper"])
    for content, seconds, vector in zip(SOUNDS, (0.4, 0.9, 0.05), vectors, strict=True):
        features = extractor(decode_sound(content, 16_000), sampling_rate=16_000, return_tensors="pt")
        states = encoder(features["input_features"]).last_hidden_state[0, : int(np.ceil(seconds * 50))]
        assert np.allclose(vector, unit(states.mean(dim=0)), atol=1e-5)


def test_clap_gives_its_projected_features(models):
    from transformers import ClapFeatureExtractor, ClapModel

    vectors = encoder_of(models["clap"]).encode(SOUNDS).vectors
    network = ClapModel.from_pretrained(models["clap"]).eval()
    features = ClapFeatureExtractor.from_pretrained(models["clap"])(
        [decode_sound(content, 16_000) for content in SOUNDS], sampling_rate=16_000, return_tensors="pt"
    )
    expected = network.get_audio_features(**features).pooler_output
    assert vectors.shape == (3, 16)
    assert np.allclose(vectors, unit(expected), atol=1e-5)


def test_a_clap_that_fuses_gives_the_same_bytes_in_every_run(tmp_path):
    directory = save_clap(tmp_path / "fusing", fusion=True)
    runs = []
    for seed in range(3):
        np.random.seed(seed)  # noqa: NPY002  the extractor of CLAP draws from this generator
        runs.append(encoder_of(directory).encode(SOUNDS).vectors.tobytes())
    assert len(set(runs)) == 1


def test_wav2vec2_gives_the_mean_of_its_states(models):
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

    vector = encoder_of(models["wav2vec2"]).encode(SOUNDS[1:2]).vectors[0]
    samples = decode_sound(SOUNDS[1], 16_000)
    inputs = Wav2Vec2FeatureExtractor.from_pretrained(models["wav2vec2"])(
        samples, sampling_rate=16_000, return_tensors="pt"
    )
    states = Wav2Vec2Model.from_pretrained(models["wav2vec2"]).eval()(inputs["input_values"]).last_hidden_state[0]
    assert np.allclose(vector, unit(states.mean(dim=0)), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_sound_has_a_vector_of_length_one_however_short_or_silent(models, kind):
    contents = [
        sound_file(np.array([0.5])),
        sound_file(np.zeros(4000)),
        sound_file(tone()[:, None] * np.ones(6), 48_000),
        sound_file(tone(0.3, 192_000), 192_000, subtype="PCM_24"),
        sound_file(tone(0.3, 44_101), 44_101, subtype="PCM_U8"),
    ]
    encoded = encoder_of(models[kind]).encode(contents)
    assert encoded.refused == {}
    assert np.allclose(np.linalg.norm(encoded.vectors, axis=1), 1.0, atol=1e-5)


def test_what_is_no_sound_is_refused_by_position_and_the_others_are_encoded(models):
    contents = [
        SOUNDS[0],
        b"no sound",
        sound_file(np.empty(0)),
        SOUNDS[1],
        sound_file(np.array([np.nan]), subtype="FLOAT"),
    ]
    encoded = encoder_of(models["whisper"], batch_sounds=2).encode(contents)
    alone = encoder_of(models["whisper"]).encode([SOUNDS[0], SOUNDS[1]])
    assert sorted(encoded.refused) == [1, 2, 4]
    assert "not finite" in encoded.refused[4]
    assert np.allclose(encoded.vectors, alone.vectors, atol=1e-5)


def test_a_long_sound_is_the_weighted_mean_of_its_windows(models):
    encoder = encoder_of(models["whisper"], overlap_s=0.5)
    long = np.concatenate([tone(2.0, 16_000, 200.0), tone(2.5, 16_000, 900.0)])
    encoded = encoder.encode([sound_file(long, 16_000, subtype="FLOAT"), SOUNDS[0]])
    cuts = [(0.0, 2.0, 2.0), (1.5, 3.5, 1.5), (3.0, 4.5, 1.0)]
    parts = encoder.encode(
        [sound_file(long[round(a * 16_000) : round(b * 16_000)], 16_000, subtype="FLOAT") for a, b, _ in cuts]
    )
    mean = (parts.vectors * np.array([[own] for _, _, own in cuts])).sum(axis=0)
    assert (encoded.chunked, encoded.truncated) == (1, 0)
    assert np.allclose(encoded.vectors[0], mean / np.linalg.norm(mean), atol=1e-5)


def test_what_is_cut_off_a_long_sound_is_counted(models):
    long = sound_file(tone(9.0, 16_000), 16_000)
    truncating = encoder_of(models["whisper"], long_inputs="truncate").encode([long, SOUNDS[0]])
    bounded = encoder_of(models["whisper"], max_chunks=2).encode([long])
    assert (truncating.truncated, truncating.chunked) == (1, 0)
    assert (bounded.truncated, bounded.chunked) == (1, 1)


def test_settings_of_long_sounds_are_part_of_the_fingerprint(models):
    options = [{}, {"long_inputs": "truncate"}, {"overlap_s": 0.1}, {"max_chunks": 3}, {"dtype": "auto"}]
    assert len({encoder_of(models["whisper"], **each).fingerprint for each in options}) == len(options)


def test_two_runs_give_the_same_bytes_and_progress_ends_at_the_total(models):
    seen: list[tuple[int, int]] = []
    contents = [sound_file(tone(0.1 + 0.03 * i, pitch=200.0 + 40 * i)) for i in range(11)]
    runs = [
        encoder_of(models["whisper"], batch_sounds=2, dtype="auto").encode(contents, lambda *at: seen.append(at))
        for _ in range(2)
    ]
    assert runs[0].vectors.tobytes() == runs[1].vectors.tobytes()
    assert seen == [(done, 11) for done in (2, 4, 6, 8, 10, 11)] * 2


@pytest.mark.parametrize("save", [lambda path: save_text_model(path, seed=1), save_joint_clip])
def test_a_model_of_another_modality_is_an_error_with_the_remedy(save, tmp_path):
    with pytest.raises(EncodingError, match=r"other-kind.*such as Whisper") as caught:
        encoder_of(save(tmp_path / "other-kind")).encode(SOUNDS)
    assert len(str(caught.value)) < 800


@pytest.mark.parametrize("seconds", [0.05, 0.7, 10.0])
def test_the_spectrogram_of_clap_is_the_librarys(models, seconds):
    from transformers import ClapFeatureExtractor

    encoder = encoder_of(models["clap"])
    assert encoder.model.dimension > 0
    sound = decode_sound(sound_file(tone(seconds)), encoder._rate)[: encoder._hearing.window]
    ours, theirs = (
        extractor(sound, sampling_rate=encoder._rate, return_tensors="np")["input_features"]
        for extractor in (encoder._extractor, ClapFeatureExtractor.from_pretrained(models["clap"]))
    )
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
