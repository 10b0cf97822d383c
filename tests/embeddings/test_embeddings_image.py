"""Images become the unit vectors that the vision model itself gives, and what is no image is refused by itself."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
import torch
from embeddings_tiny_models import save_whisper
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from aura.embeddings.encoder import MIN_PARITY
from aura.embeddings.errors import EncodingError, UnreadableImageError
from aura.embeddings.image import decode_image, open_image_encoder


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


def saved(image: Image.Image, image_format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=image_format, **options)
    return buffer.getvalue()


NOISE = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
PALETTE = Image.fromarray(NOISE).convert("P")
KINDS = {
    "16-bit grey": saved(Image.fromarray(NOISE[:, :, 0].astype(np.uint16) * 257)),
    "grey": saved(Image.fromarray(NOISE[:, :, 0])),
    "grey with alpha": saved(Image.fromarray(NOISE[:, :, 0]).convert("LA")),
    "one bit": saved(Image.fromarray(NOISE[:, :, 0]).convert("1")),
    "palette with transparency": saved(PALETTE, transparency=3),
    "palette with transparencies": saved(PALETTE, transparency=bytes(range(256))),
    "CMYK": saved(Image.fromarray(NOISE).convert("CMYK"), "JPEG"),
    "float": saved(Image.fromarray(NOISE[:, :, 0].astype(np.float32) / 255), "TIFF"),
    "one pixel": saved(Image.new("RGB", (1, 1), (200, 10, 10))),
    "one row": saved(Image.new("RGB", (200, 1), (200, 10, 10))),
    "one column": saved(Image.new("L", (1, 200))),
    "animated": saved(
        Image.fromarray(NOISE), "GIF", save_all=True, append_images=[Image.fromarray(255 - NOISE)], duration=10
    ),
    "WebP": saved(Image.fromarray(NOISE), "WEBP"),
    "large": saved(Image.new("RGB", (3000, 2000), (10, 200, 10)), "JPEG"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("model", ["tiny_clip", "tiny_vit"])
def test_images_of_every_kind_have_vectors(model, request):
    encoder = open_image_encoder(str(request.getfixturevalue(model)), device="cpu", dtype="float32")
    encoded = encoder.encode(list(KINDS.values()))
    assert encoded.refused == {}
    assert np.allclose(np.linalg.norm(encoded.vectors, axis=1), 1.0, atol=1e-5)


def test_sixteen_bits_show_the_same_picture_as_eight():
    eight, sixteen = (np.asarray(decode_image(KINDS[kind])) for kind in ("grey", "16-bit grey"))
    assert np.abs(eight.astype(int) - sixteen.astype(int)).max() <= 1


def test_of_an_animation_the_first_frame_counts():
    first = decode_image(KINDS["animated"])
    assert np.abs(np.asarray(first).astype(int) - NOISE).mean() < 30


def test_an_image_is_turned_as_its_exif_orientation_says():
    image = Image.fromarray(NOISE)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = np.asarray(decode_image(saved(image, exif=exif)))
    assert np.array_equal(turned, np.rot90(np.asarray(decode_image(saved(image))), k=-1))


def test_an_image_of_numbers_that_are_not_finite_is_refused():
    levels = np.ones((8, 8), np.float32)
    levels[3, 3] = np.nan
    with pytest.raises(UnreadableImageError, match="not finite"):
        decode_image(saved(Image.fromarray(levels), "TIFF"))


def test_the_reason_of_a_refusal_is_the_same_every_time():
    with pytest.raises(UnreadableImageError, match="PNG or JPEG") as refusal:
        decode_image(b"no image at all")
    assert "0x" not in str(refusal.value)


def claimed_size(width: int, height: int) -> bytes:
    """A PNG of one pixel whose header claims another size."""
    content = bytearray(saved(Image.new("L", (1, 1))))
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


@pytest.mark.parametrize("size", [(50_000, 50_000), (16_000, 12_000)])
def test_a_decompression_bomb_is_refused_with_the_limit(size, tiny_clip):
    encoded = open_image_encoder(str(tiny_clip), device="cpu", dtype="float32").encode(
        [claimed_size(*size), picture(0)]
    )
    assert list(encoded.refused) == [0]
    assert "pixels" in encoded.refused[0]
    assert len(encoded.vectors) == 1


def test_an_image_that_is_hardly_one_is_refused_with_the_ratio(tiny_clip):
    sliver = saved(Image.new("L", (10_000, 2)))
    encoded = open_image_encoder(str(tiny_clip), device="cpu", dtype="float32").encode([sliver])
    assert "10000 x 2" in encoded.refused[0]
    assert encoded.vectors.shape == (0, 16)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(KINDS)), st.data())
def test_a_damaged_image_is_decoded_or_unreadable_and_never_anything_else(kind, data):
    content = bytearray(KINDS[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content), 400) - 1))] = data.draw(st.integers(0, 255))
    with suppress(UnreadableImageError):
        assert decode_image(bytes(content[: data.draw(st.integers(1, len(content)))])).mode == "RGB"


def test_bytes_do_not_depend_on_the_number_of_threads(tiny_vit):
    contents = [picture(seed) for seed in range(9)]
    before = torch.get_num_threads()
    found = set()
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            encoder = open_image_encoder(str(tiny_vit), device="cpu", batch_images=2)
            found.add(encoder.encode(contents).vectors.tobytes())
    finally:
        torch.set_num_threads(before)
    assert len(found) == 1


def test_an_audio_model_is_an_error_with_the_remedy(tmp_path):
    with pytest.raises(EncodingError, match="such as CLIP") as caught:
        open_image_encoder(str(save_whisper(tmp_path / "whisper")), device="cpu").encode([picture(0)])
    assert len(str(caught.value)) < 800


def test_a_model_without_an_image_processor_is_an_error_that_names_it(tiny_text_model):
    with pytest.raises(EncodingError, match="image processor"):
        open_image_encoder(str(tiny_text_model), device="cpu").encode([picture(0)])
