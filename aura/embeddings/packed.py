"""The forward pass of BERT over tokens without padding.

Belongs here: BERT and RoBERTa, rearranged: one product for queries, keys and values, texts one after the other in one
matrix, attention per group of texts of equal length. Does not: the attention itself (`aura.embeddings.attention`),
tokens, pooling, other architectures, which the library runs (`aura.embeddings.towers`).

BERT: Devlin et al. 2019, arXiv 1810.04805. Packing without padding: Zeng et al. 2022, arXiv 2208.08124.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import TYPE_CHECKING, cast

import numpy as np

from aura.embeddings.attention import attention, query_scale

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedModel

ARCHITECTURES = frozenset({"BertModel", "RobertaModel", "XLMRobertaModel", "CamembertModel"})
"""Classes of `transformers` with the layers of BERT; all but the first count positions from the padding's id on."""


@dataclass(frozen=True)
class Group:
    """Texts of equal length that follow each other in the packed matrix: rows `start` to `start + count * length`."""

    start: int
    count: int
    length: int

    @property
    def rows(self) -> slice:
        """Where its tokens are."""
        return slice(self.start, self.start + self.count * self.length)


def is_packable(network: PreTrainedModel) -> bool:
    """Whether a network is one of those that can be rearranged."""
    config = network.config
    return (
        type(network).__name__ in ARCHITECTURES
        and config.hidden_act in ("gelu", "gelu_python")
        and getattr(config, "position_embedding_type", "absolute") == "absolute"
        and not config.is_decoder
    )


class PackedBert:
    """A BERT whose weights are copied from one of `transformers`, in one dtype."""

    def __init__(self, network: PreTrainedModel, dtype: torch.dtype) -> None:
        config, weights = network.config, network.state_dict()
        eps = float(config.layer_norm_eps)
        first = 0 if type(network).__name__ == "BertModel" else int(config.pad_token_id) + 1
        # A single text has one type, so the type's vector is part of the position's; added before it is rounded.
        position = weights["embeddings.position_embeddings.weight"][first:]
        position = position + weights["embeddings.token_type_embeddings.weight"][0]
        self._word = _copied(weights["embeddings.word_embeddings.weight"], dtype)
        self._position = _copied(position, dtype)
        self._norm = _Norm(weights, "embeddings.LayerNorm", eps, dtype)
        self._layers = [
            _Layer(weights, f"encoder.layer.{number}", config.num_attention_heads, eps, dtype)
            for number in range(config.num_hidden_layers)
        ]

    def hidden_states(self, texts: Sequence[Sequence[int]]) -> tuple[Tensor, list[Group]]:
        """The last hidden state of every token.

        Args:
            texts: Token ids of each text, texts of equal length next to each other.

        Returns:
            [tokens, d], text after text, and the groups of texts of equal length.
        """
        import torch

        device = self._word.device
        groups = list(_groups(texts))
        tokens = torch.tensor(np.fromiter(chain.from_iterable(texts), np.int64)).to(device)
        positions = torch.cat([torch.arange(group.length, device=device).repeat(group.count) for group in groups])
        x = self._norm(self._word[tokens] + self._position[positions])
        for layer in self._layers:
            x = layer(x, groups)
        return x, groups


class _Norm:
    def __init__(self, weights: Mapping[str, Tensor], name: str, eps: float, dtype: torch.dtype) -> None:
        self._weight, self._bias = _copied(weights[f"{name}.weight"], dtype), _copied(weights[f"{name}.bias"], dtype)
        self._eps = eps

    def __call__(self, x: Tensor) -> Tensor:
        from torch.nn.functional import layer_norm

        return layer_norm(x, self._weight.shape, self._weight, self._bias, self._eps)


class _Linear:
    """A linear layer; on a CPU its weights are kept in the order in which oneDNN multiplies them.

    The plain layer brings them into this order at every call, and writes its output before GELU reads it again: both
    together are 6 % of the time of MiniLM in bfloat16 on a processor with AVX512-BF16.
    """

    def __init__(
        self, weights: Mapping[str, Tensor], names: Sequence[str], dtype: torch.dtype, *, gelu: bool = False
    ) -> None:
        import torch

        weight = _copied(torch.cat([weights[f"{name}.weight"] for name in names]), dtype)
        self._bias = _copied(torch.cat([weights[f"{name}.bias"] for name in names]), dtype)
        self._gelu = gelu
        self._is_reordered = weight.device.type == "cpu" and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight) if self._is_reordered else weight  # noqa: SLF001

    def __call__(self, x: Tensor) -> Tensor:
        import torch
        from torch.nn.functional import gelu, linear

        if self._is_reordered:
            name, algorithm = ("gelu", "none") if self._gelu else ("none", "")
            product = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, name, [], algorithm)  # noqa: SLF001
            return cast("Tensor", product)
        product = linear(x, self._weight, self._bias)
        return gelu(product) if self._gelu else product


class _Layer:
    def __init__(self, weights: Mapping[str, Tensor], name: str, heads: int, eps: float, dtype: torch.dtype) -> None:
        self._heads = heads
        query, key, value = (f"{name}.attention.self.{part}" for part in ("query", "key", "value"))
        scale = query_scale(len(weights[f"{query}.weight"]) // heads)
        scaled = {part: scale * weights[part] for part in (f"{query}.weight", f"{query}.bias")}
        self._qkv = _Linear({**weights, **scaled}, [query, key, value], dtype)
        self._out = _Linear(weights, [f"{name}.attention.output.dense"], dtype)
        self._attention_norm = _Norm(weights, f"{name}.attention.output.LayerNorm", eps, dtype)
        self._up = _Linear(weights, [f"{name}.intermediate.dense"], dtype, gelu=True)
        self._down = _Linear(weights, [f"{name}.output.dense"], dtype)
        self._norm = _Norm(weights, f"{name}.output.LayerNorm", eps, dtype)

    def __call__(self, x: Tensor, groups: Sequence[Group]) -> Tensor:
        x = self._attention_norm(self._out(self._attend(self._qkv(x), groups)).add_(x))
        return self._norm(self._down(self._up(x)).add_(x))

    def _attend(self, qkv: Tensor, groups: Sequence[Group]) -> Tensor:
        """Attention [tokens, d] out of queries, keys and values [tokens, 3 d]."""
        attended = qkv.new_empty(len(qkv), qkv.shape[1] // 3)
        for group in groups:
            shape = (group.count, group.length, 3, self._heads, -1)
            heads = attention(*qkv[group.rows].view(shape).permute(2, 0, 3, 1, 4)).transpose(1, 2)
            attended[group.rows].view(heads.shape).copy_(heads)
        return attended


def _groups(texts: Sequence[Sequence[int]]) -> Iterator[Group]:
    start = 0
    for length, equal in groupby(len(text) for text in texts):
        count = sum(1 for _ in equal)
        yield Group(start, count, length)
        start += count * length


def _copied(weights: Tensor, dtype: torch.dtype) -> Tensor:
    return weights.detach().to(dtype, copy=True).contiguous()
