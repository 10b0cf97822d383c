"""The tokenizer and the tokens."""

from __future__ import annotations

import numpy as np
import pytest
from transformers import AutoTokenizer

from aura.experts.language.checks import tokens_stand_for_every_byte
from aura.experts.language.text import read_text
from aura.experts.language.tokens import END_OF_TEXT, LanguageText, LanguageTextError, save_tokenizer, tokenize

STRANGE = "naïve 木 \t\t<|endoftext|>\r\n\x07 end"


def test_every_document_comes_back_from_its_tokens(text_directory, small_text):
    split = read_text(str(text_directory), domain_bytes=60_000)
    tokenizer = small_text.tokenizer()
    end = tokenizer.token_to_id(END_OF_TEXT)
    for side, tokens in ((split.training, small_text.training), (split.held_out, small_text.held_out)):
        for domain, documents in side.items():
            pieces = np.split(tokens[domain], np.flatnonzero(tokens[domain] == end) + 1)[:-1]
            assert [tokenizer.decode(piece[:-1].tolist()) for piece in pieces] == [d.text for d in documents]


def test_the_bytes_of_the_tokens_are_those_of_the_text(small_text):
    assert tokens_stand_for_every_byte(small_text).passed
    sizes = small_text.token_bytes()
    tokenizer = small_text.tokenizer()
    tokenizer.encode_special_tokens = True
    ids = tokenizer.encode(STRANGE).ids
    assert sizes[ids].sum() == len(STRANGE.encode())


def test_a_text_that_spells_the_end_of_a_text_has_its_bytes_all_the_same(tmp_path):
    (tmp_path / "odd").mkdir()
    for number in range(5):
        (tmp_path / "odd" / f"{number}.txt").write_text(f"{STRANGE} {number}")
    text = tokenize(read_text(str(tmp_path)), 270)
    assert tokens_stand_for_every_byte(text).passed
    for side, documents in ((text.training, "training_documents"), (text.held_out, "held_out_documents")):
        assert (side["odd"] == 0).sum() == getattr(text.card.domains[0], documents)


def test_the_same_text_gives_the_same_tokens(text_directory, small_text, tiny):
    again = tokenize(read_text(str(text_directory), domain_bytes=tiny.domain_bytes), tiny.vocabulary)
    assert again.card == small_text.card
    assert again.tokenizer_json == small_text.tokenizer_json
    for domain in again.training:
        np.testing.assert_array_equal(again.training[domain], small_text.training[domain])


def test_the_tokenizer_has_learned_from_the_training_part_alone(tmp_path):
    (tmp_path / "one").mkdir()
    for number in range(40):
        (tmp_path / "one" / f"{number}.txt").write_text(f"common words {number}. " * 20)
    split = read_text(str(tmp_path))
    text = tokenize(split, 400)
    rare = "qqzzxx" * 50
    changed = tokenize(
        type(split)(
            split.source,
            split.training,
            {"one": tuple(type(d)(d.domain, d.digest, rare) for d in split.held_out["one"])},
            split.left_out,
        ),
        400,
    )
    assert changed.tokenizer_json == text.tokenizer_json


def test_transformers_opens_the_tokenizer(small_text, tmp_path):
    save_tokenizer(small_text.tokenizer_json, tmp_path)
    opened = AutoTokenizer.from_pretrained(tmp_path)
    ids = opened("The bridge of river").input_ids
    assert ids == small_text.tokenizer().encode("The bridge of river").ids
    assert opened.decode(ids) == "The bridge of river"
    assert (opened.eos_token, opened.eos_token_id) == (END_OF_TEXT, 0)


def test_parts_there_and_back(small_text):
    parts = small_text.to_parts()
    back = LanguageText.from_parts(parts)
    assert back.card == small_text.card
    assert back.to_parts()["card"] == parts["card"]
    assert back.card.training_tokens == sum(len(tokens) for tokens in small_text.training.values())
    assert back.card.held_out_tokens == sum(len(tokens) for tokens in small_text.held_out.values())
    with pytest.raises(LanguageTextError, match="materialize language_text again"):
        LanguageText.from_parts({"card": parts["card"]})
    with pytest.raises(LanguageTextError, match="malformed"):
        LanguageText.from_parts({**parts, "card": b"{}"})


@pytest.mark.parametrize("vocabulary", [256, 70_000])
def test_a_vocabulary_out_of_range_is_refused(text_directory, vocabulary):
    with pytest.raises(ValueError, match="give 257 to 65536"):
        tokenize(read_text(str(text_directory)), vocabulary)
