"""Images become the unit vectors that the vision model itself gives, and what is no image is refused by itself."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from aura.embeddings.encoder import MIN_PARITY
from aura.embeddings.errors import EncodingError
from aura.embeddings.image import open_image_encoder


def picture(seed: int, image_format: str = "PNG", mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 30, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, format=image_format)
    return buffer.getvalue()


def model_inputs(directory, contents):
    from transformers import AutoImageProcessor

    images = [Image.open(io.BytesIO(content)).convert("RGB") for content in contents]
    return AutoImageProcessor.from_pretrained(directory)(images=images, return_tensors="pt")


def unit(vectors: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(vectors, dim=1).detach().numpy()


def test_without_weights_there_is_no_encoder():
    assert open_image_encoder(None) is None


def test_clip_gives_its_projected_image_features(tiny_clip):
    from transformers import CLIPModel

    contents = [picture(0), picture(1, "JPEG"), picture(2, mode="L"), picture(3, mode="RGBA")]
    encoder = open_image_encoder(str(tiny_clip), device="cpu", dtype="float32", batch_images=3)
    vectors = encoder.encode(contents).vectors
    expected = CLIPModel.from_pretrained(tiny_clip).get_image_features(**model_inputs(tiny_clip, contents))
    assert vectors.shape == (4, 16)
    assert encoder.model.dimension == 16
    assert np.allclose(vectors, unit(expected.pooler_output), atol=1e-6)


def test_a_vit_without_pooling_gives_its_first_token(tiny_vit):
    from transformers import ViTModel

    contents = [picture(seed) for seed in range(5)]
    vectors = open_image_encoder(str(tiny_vit), device="cpu", dtype="float32").encode(contents).vectors
    network = ViTModel.from_pretrained(tiny_vit, add_pooling_layer=False).eval()
    expected = network(**model_inputs(tiny_vit, contents)).last_hidden_state[:, 0]
    assert np.allclose(vectors, unit(expected), atol=1e-6)


def test_what_is_no_image_is_refused_and_the_others_are_encoded(tiny_clip):
    contents = [picture(0), b"no image at all", picture(1)[:100], picture(2)]
    encoded = open_image_encoder(str(tiny_clip), device="cpu", dtype="float32").encode(contents)
    alone = open_image_encoder(str(tiny_clip), device="cpu", dtype="float32").encode([contents[0], contents[3]])
    assert sorted(encoded.refused) == [1, 2]
    assert all("decoded" in reason for reason in encoded.refused.values())
    assert np.allclose(encoded.vectors, alone.vectors, atol=1e-6)


def test_two_runs_give_the_same_bytes_and_progress_ends_at_the_total(tiny_clip):
    contents = [picture(seed) for seed in range(7)]
    seen: list[tuple[int, int]] = []
    runs = [
        open_image_encoder(str(tiny_clip), device="cpu", batch_images=4).encode(
            contents, lambda done, total: seen.append((done, total))
        )
        for _ in range(2)
    ]
    assert runs[0].vectors.tobytes() == runs[1].vectors.tobytes()
    assert seen == [(4, 7), (7, 7)] * 2


def test_the_fingerprint_is_known_before_the_weights_are_loaded(tiny_clip, tiny_vit):
    clip, vit = open_image_encoder(str(tiny_clip)), open_image_encoder(str(tiny_vit))
    assert clip.fingerprint != vit.fingerprint
    assert not clip.is_loaded
    assert clip.model.fingerprint == clip.fingerprint
    assert clip.is_loaded


@pytest.mark.skipif(
    not torch.cpu.get_capabilities().get("avx512_bf16"), reason="this CPU does not multiply in bfloat16"
)
def test_bfloat16_settles_on_what_its_parity_allows(tiny_clip):
    encoder = open_image_encoder(str(tiny_clip), device="cpu", dtype="auto")
    vectors = encoder.encode([picture(seed) for seed in range(6)]).vectors
    assert (encoder.model.dtype == "bfloat16") == (encoder.model.parity_cosine >= MIN_PARITY)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)


def test_a_model_without_an_image_processor_is_an_error_that_names_it(tiny_text_model):
    with pytest.raises(EncodingError, match="image processor"):
        open_image_encoder(str(tiny_text_model), device="cpu").encode([picture(0)])
