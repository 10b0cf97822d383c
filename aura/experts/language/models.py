"""A trained language model with experts and its dense twin as a stored value.

Light to import: the networks live in `aura.experts.language.pair` and are built on request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from aura.experts.language.card import LanguageCard
from aura.experts.language.tokens import load_tokenizer, save_tokenizer
from aura.tiers.values import Part, Tensors

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import Qwen3ForCausalLM

    from aura.experts.language.model import AuraMoeForCausalLM

MOE, DENSE = "moe", "dense"
"""The directories that `save` writes, and the parts with the weights."""

_CARD, _TOKENIZER = "card", "tokenizer"


class LanguageModelsError(ValueError):
    """Parts that do not make up a pair of language models."""


@dataclass(frozen=True, eq=False)
class LanguageModels:
    """A model with experts and its dense twin, trained on the same batches.

    Attributes:
        card: How they were made and how well they predict.
        tokenizer_json: Their tokenizer.
        moe: Weights of the model with experts by name, as `transformers` names them.
        dense: Weights of the twin, likewise.
    """

    card: LanguageCard
    tokenizer_json: bytes = field(repr=False)
    moe: Tensors = field(repr=False)
    dense: Tensors = field(repr=False)

    def tokenizer(self) -> Tokenizer:
        """The tokenizer of both."""
        return load_tokenizer(self.tokenizer_json)

    def moe_network(self) -> AuraMoeForCausalLM:
        """The model with experts in evaluation mode, on the CPU; raises PairError when the weights do not fit."""
        from aura.experts.language.pair import build_moe, fill

        network = build_moe(self.card.config, self.card.text.vocabulary)
        fill(network, self.moe)
        return network

    def dense_network(self) -> Qwen3ForCausalLM:
        """The twin, likewise."""
        from aura.experts.language.pair import build_dense, fill

        network = build_dense(self.card.config, self.card.text.vocabulary)
        fill(network, self.dense)
        return network

    def save(self, directory: Path) -> tuple[Path, Path]:
        """Write two directories of `transformers`, "moe" and "dense", each with weights, settings and tokenizer.

        `AutoModelForCausalLM.from_pretrained` opens them; for "moe" import `aura.experts.language.model` before.

        Returns:
            Their paths.
        """
        for name, network in ((MOE, self.moe_network()), (DENSE, self.dense_network())):
            network.save_pretrained(directory / name)
            save_tokenizer(self.tokenizer_json, directory / name)
            (directory / name / "aura.card.json").write_bytes(self.card.to_json())
        return directory / MOE, directory / DENSE

    def to_parts(self) -> Mapping[str, Part]:
        """Canonical JSON as "card", the tokenizer as "tokenizer", tensors as "moe" and "dense"."""
        return {_CARD: self.card.to_json(), _TOKENIZER: self.tokenizer_json, MOE: self.moe, DENSE: self.dense}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Part]) -> Self:
        """Put it together; raises LanguageModelsError or LanguageCardError when the parts are another thing's."""
        card, tokenizer, moe, dense = (parts.get(name) for name in (_CARD, _TOKENIZER, MOE, DENSE))
        if (
            not isinstance(card, bytes)
            or not isinstance(tokenizer, bytes)
            or not isinstance(moe, Mapping)
            or not isinstance(dense, Mapping)
        ):
            raise LanguageModelsError(
                f"a pair of language models has the parts card, tokenizer, moe and dense, got {sorted(parts)}; train "
                "them again"
            )
        return cls(LanguageCard.from_json(card), tokenizer, moe, dense)
