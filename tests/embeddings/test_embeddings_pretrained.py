"""A pretrained space: two modalities, one network, one fingerprint, vectors that can be compared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from embeddings_tiny_models import LIMIT, save_clap, save_joint_clip, save_siglip, save_text_model
from test_embeddings_image import picture
from test_embeddings_sound import sound_file, tone

from aura.corpus.directory import DirectorySource
from aura.embeddings.errors import EncodingError, ModelFilesError
from aura.embeddings.pretrained import open_shared_space
from aura.embeddings.shared import embed_shared, of_modality


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return save_joint_clip(tmp_path_factory.mktemp("joint") / "clip")


@pytest.fixture(scope="module")
def siglip(tmp_path_factory):
    return save_siglip(tmp_path_factory.mktemp("joint") / "siglip")


@pytest.fixture(scope="module")
def clap(tmp_path_factory):
    return save_clap(tmp_path_factory.mktemp("joint") / "clap")


def space_of(directory, **options):
    return open_shared_space(str(directory), device="cpu", **({"dtype": "float32"} | options))


def unit(vectors: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(vectors, dim=1).detach().numpy()


TEXTS = ["cat dog", "fish", "a table of text"]
CONTENTS = {"image": [picture(0), picture(1)], "audio": [sound_file(tone()), sound_file(tone(0.3, pitch=900.0))]}


def test_clip_gives_the_librarys_features_of_texts_and_images(clip):
    import io

    from PIL import Image
    from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

    space = space_of(clip)
    network = CLIPModel.from_pretrained(clip).eval()
    tokens = AutoTokenizer.from_pretrained(clip)(TEXTS, padding=True, return_tensors="pt")
    images = [Image.open(io.BytesIO(content)) for content in CONTENTS["image"]]
    pixels = CLIPImageProcessor.from_pretrained(clip)(images=images, return_tensors="pt")["pixel_values"]
    found = space.encoder("text").encode(TEXTS).vectors, space.encoder("image").encode(CONTENTS["image"]).vectors
    tokens.pop("token_type_ids", None)
    assert np.allclose(found[0], unit(network.get_text_features(**tokens).pooler_output), atol=1e-5)
    assert np.allclose(found[1], unit(network.get_image_features(pixels).pooler_output), atol=1e-5)


def test_siglip_sees_texts_padded_to_the_limit_as_in_its_training(siglip):
    from transformers import AutoTokenizer, SiglipModel

    tokens = AutoTokenizer.from_pretrained(siglip)(TEXTS, padding="max_length", max_length=LIMIT, return_tensors="pt")
    expected = SiglipModel.from_pretrained(siglip).eval().get_text_features(tokens["input_ids"]).pooler_output
    assert np.allclose(space_of(siglip).encoder("text").encode(TEXTS).vectors, unit(expected), atol=1e-5)


def test_siglip2_takes_images_of_their_own_shapes(tmp_path):
    space = space_of(save_siglip(tmp_path / "siglip2", version=2))
    vectors = space.encoder("image").encode(CONTENTS["image"]).vectors
    assert vectors.shape == (2, space.encoder("text").model.dimension)


@pytest.mark.parametrize(("kind", "other"), [("clip", "image"), ("siglip", "image"), ("clap", "audio")])
def test_both_encoders_share_fingerprint_dimension_and_network(kind, other, request):
    space = space_of(request.getfixturevalue(kind), dtype="auto")
    text, content = space.encoder("text"), space.encoder(other)
    assert space.modalities == ("text", other)
    assert not text.is_loaded
    assert space.fingerprint == text.model.fingerprint == content.model.fingerprint
    assert text.model.dimension == content.model.dimension
    assert text._tower._shared is content._pretrained
    cosines = text.encode(TEXTS).vectors @ content.encode(CONTENTS[other]).vectors.T
    assert cosines.shape == (3, 2)
    assert np.abs(cosines).max() <= 1.0 + 1e-6


def test_one_side_in_bfloat16_leaves_the_other_as_it_was(clap):
    alone = space_of(clap).encoder("audio").encode(CONTENTS["audio"]).vectors
    space = space_of(clap, dtype="auto")
    space.encoder("text").encode(TEXTS)
    beside = space._encoders["audio"]
    beside._dtype = "float32"
    assert np.array_equal(alone, beside.encode(CONTENTS["audio"]).vectors)


def test_the_fingerprint_tells_settings_and_models_apart(clip, siglip):
    spaces = [space_of(clip), space_of(siglip), space_of(clip, dtype="auto"), space_of(clip, long_inputs="truncate")]
    assert len({space.fingerprint for space in spaces}) == 4


@pytest.mark.parametrize("kind", ["clip", "siglip", "clap"])
def test_long_texts_are_chunked_there_too(kind, request):
    directory = request.getfixturevalue(kind)
    long = ["cat dog fish " * 20, "cat"]
    encoded = space_of(directory).encoder("text").encode(long)
    cut = space_of(directory, long_inputs="truncate").encoder("text").encode(long)
    assert (encoded.chunked, encoded.truncated) == (1, 0)
    assert (cut.chunked, cut.truncated) == (0, 1)
    assert np.allclose(encoded.vectors[1], cut.vectors[1], atol=1e-5)


def test_a_modality_that_the_model_lacks_is_an_error_that_names_both(clip):
    with pytest.raises(EncodingError, match="text and image, not 'audio'"):
        space_of(clip).encoder("audio")


def test_a_model_that_joins_nothing_is_refused_with_those_that_do(tmp_path):
    with pytest.raises(ModelFilesError, match=r"'bert' and joins no modalities.*clip, siglip, siglip2, clap"):
        space_of(save_text_model(tmp_path / "bert", seed=1))


def test_a_joint_model_without_its_tokenizer_is_an_error_with_the_remedy(tiny_clip):
    with pytest.raises(EncodingError, match=r"no tokenizer.*processor"):
        space_of(tiny_clip).encoder("text").encode(TEXTS)


def test_towers_of_different_arithmetic_are_incremental_each_by_itself(clip, tmp_path):
    """As on hardware on which one tower keeps its accuracy in bfloat16 and the other does not."""
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(f"cat dog {'fish ' * number}")
        (tmp_path / f"{number}.png").write_bytes(picture(number))

    def embed(previous=None):
        space = space_of(clip)
        text = space.encoder("text")
        assert text.model.dtype == "float32"
        vars(text)["_settled"] = replace(text._settled, precision="bfloat16", parity_cosine=0.9995)
        source = DirectorySource("mixed", tmp_path)
        return embed_shared(source.scan(), space, read=source.read, previous=previous)

    first, _ = embed()
    assert first.model.dtype == "text bfloat16, image float32"
    assert first.model.parity_cosine == 0.9995
    (tmp_path / "new.txt").write_text("a tree")
    second, reports = embed(first)
    assert {modality: (report.encoded, report.reused) for modality, report in reports.items()} == {
        "text": (1, 3),
        "image": (0, 3),
    }
    assert second.model == first.model
    assert of_modality(second, "image").model.dtype == "float32"
