"""Text as tokens: a byte-pair tokenizer trained on the training part, and both parts encoded with it.

Belongs here: the tokenizer and the value that holds the tokens. Does not: which text (`aura.experts.language.text`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from aura.experts.language.text import Document, SplitText
from aura.tiers.canonical_json import canonical_json, parsed
from aura.tiers.values import Part, Tensors

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_TEXT = "<|endoftext|>"
"""Stands behind every document; its id is 0 and it stands for no bytes."""
MAX_VOCABULARY = 2**16
MIN_VOCABULARY = 257

_CARD, _TOKENIZER, _TRAINING, _HELD_OUT = "card", "tokenizer", "training", "held-out"


class LanguageTextError(ValueError):
    """Parts that do not make up a tokenized text."""


@dataclass(frozen=True)
class Domain:
    """How much of a domain there is.

    Attributes:
        name: Its name.
        training_documents: Files to learn from.
        training_bytes: Their bytes in UTF-8.
        training_tokens: Their tokens.
        held_out_documents: Files to be judged by.
        held_out_bytes: Their bytes.
        held_out_tokens: Their tokens.
    """

    name: str
    training_documents: int
    training_bytes: int
    training_tokens: int
    held_out_documents: int
    held_out_bytes: int
    held_out_tokens: int


@dataclass(frozen=True)
class TextCard:
    """Where a text is from.

    Attributes:
        source: "installed" or the directory.
        digest: Of the documents and their split.
        vocabulary: Tokens of the tokenizer.
        domains: Sorted by name.
        left_out: Domains that are not there, and why.
    """

    source: str
    digest: str
    vocabulary: int
    domains: tuple[Domain, ...]
    left_out: Mapping[str, str]

    @property
    def training_tokens(self) -> int:
        """Tokens to learn from."""
        return sum(domain.training_tokens for domain in self.domains)

    @property
    def held_out_tokens(self) -> int:
        """Tokens to be judged by."""
        return sum(domain.held_out_tokens for domain in self.domains)


@dataclass(frozen=True, eq=False)
class LanguageText:
    """Text as a language model sees it.

    Attributes:
        card: Where it is from.
        tokenizer_json: The tokenizer as `tokenizers` writes it.
        training: The tokens of each domain [n] uint16, documents one after the other, each closed by `END_OF_TEXT`.
        held_out: Likewise.
    """

    card: TextCard
    tokenizer_json: bytes = field(repr=False)
    training: Tensors = field(repr=False)
    held_out: Tensors = field(repr=False)

    def tokenizer(self) -> Tokenizer:
        """The tokenizer."""
        return load_tokenizer(self.tokenizer_json)

    def token_bytes(self) -> np.ndarray:
        """How many bytes each token of the vocabulary stands for [V] int64; none for `END_OF_TEXT`."""
        vocabulary = json.loads(self.tokenizer_json)["model"]["vocab"]
        sizes = np.zeros(self.card.vocabulary, np.int64)
        for token, number in vocabulary.items():
            # A byte-level token has one character for each byte.
            sizes[number] = 0 if token == END_OF_TEXT else len(token)
        return sizes

    def to_parts(self) -> Mapping[str, Part]:
        """Canonical JSON as "card", the tokenizer's own as "tokenizer", tensors as "training" and "held-out"."""
        return {
            _CARD: canonical_json(self.card),
            _TOKENIZER: self.tokenizer_json,
            _TRAINING: self.training,
            _HELD_OUT: self.held_out,
        }

    @classmethod
    def from_parts(cls, parts: Mapping[str, Part]) -> Self:
        """Put it together; raises LanguageTextError when the parts are another thing's."""
        card, tokenizer = parts.get(_CARD), parts.get(_TOKENIZER)
        training, held_out = parts.get(_TRAINING), parts.get(_HELD_OUT)
        if (
            not isinstance(card, bytes)
            or not isinstance(tokenizer, bytes)
            or not isinstance(training, Mapping)
            or not isinstance(held_out, Mapping)
        ):
            raise LanguageTextError(
                f"a tokenized text has the parts card, tokenizer, training and held-out, got {sorted(parts)}; "
                "materialize language_text again"
            )
        try:
            return cls(parsed(TextCard, card), tokenizer, training, held_out)
        except ValueError as error:
            raise LanguageTextError(
                f"the card of a tokenized text is malformed: {error}; materialize language_text again"
            ) from error


def tokenize(text: SplitText, vocabulary: int) -> LanguageText:
    """Train a byte-level byte-pair tokenizer (Sennrich et al., arXiv 1508.07909) on the training part; encode both.

    Args:
        text: The text.
        vocabulary: Tokens at most, the 256 bytes and the end of a text included; a small text gives fewer.

    Raises:
        ValueError: The vocabulary is out of its range.
    """
    if not MIN_VOCABULARY <= vocabulary <= MAX_VOCABULARY:
        raise ValueError(f"a vocabulary of {vocabulary} tokens: give {MIN_VOCABULARY} to {MAX_VOCABULARY}")
    tokenizer = _trained(text, vocabulary)
    tokenizer_json = tokenizer.to_str().encode()
    training = {name: _encoded(tokenizer, text.training[name]) for name in text.domains}
    held_out = {name: _encoded(tokenizer, text.held_out[name]) for name in text.domains}
    domains = tuple(
        Domain(
            name,
            len(text.training[name]),
            sum(document.size for document in text.training[name]),
            len(training[name]),
            len(text.held_out[name]),
            sum(document.size for document in text.held_out[name]),
            len(held_out[name]),
        )
        for name in text.domains
    )
    card = TextCard(text.source, text.digest, tokenizer.get_vocab_size(), domains, text.left_out)
    return LanguageText(card, tokenizer_json, training, held_out)


def load_tokenizer(tokenizer_json: bytes) -> Tokenizer:
    """The tokenizer that was written as JSON."""
    from tokenizers import Tokenizer

    tokenizer: Tokenizer = Tokenizer.from_str(tokenizer_json.decode())
    return tokenizer


def save_tokenizer(tokenizer_json: bytes, directory: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json, so that `AutoTokenizer.from_pretrained` opens the directory."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=load_tokenizer(tokenizer_json), bos_token=END_OF_TEXT, eos_token=END_OF_TEXT
    )
    tokenizer.save_pretrained(directory)


def _trained(text: SplitText, vocabulary: int) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = (document.text for documents in text.training.values() for document in documents)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _encoded(tokenizer: Tokenizer, documents: Iterable[Document]) -> np.ndarray:
    end = tokenizer.token_to_id(END_OF_TEXT)
    # A text that spells the mark of its end is spelled out, and does not end there.
    tokenizer.encode_special_tokens = True
    ids = [
        np.array([*tokenizer.encode(document.text, add_special_tokens=False).ids, end], np.uint16)
        for document in documents
    ]
    return np.concatenate(ids)
