"""The routing of a mixture of experts on texts, batch by batch, taken by hooks that change nothing.

Belongs here: opening a model, listening to its routers, streaming texts through it. Does not: finding the sparse layers
(`layers`), counting (`tally`).

What a text is cut to, and that padding is never counted, is decided here. A text is read from its beginning, with the
special tokens that its tokenizer adds, up to a limit; there are no windows after it. A decoder beside an encoder reads
the same text one place to the right. Where experts have places that a whole batch shares, only texts of equal length
share a batch, so that padding takes no place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch  # noqa: TID253 - a module of neural networks; nothing light imports it
from safetensors import SafetensorError
from torch import nn  # noqa: TID253

from aura.embeddings.errors import ModelFilesError
from aura.embeddings.weights import HUB_TIMEOUT_S, ModelFiles, locate_model
from aura.experts.gating import Routing
from aura.experts.routing.batch import LayerRouting, RoutedBatch, Stack
from aura.experts.routing.errors import NotAMixtureError, RoutedModelError, RoutingError
from aura.experts.routing.layers import (
    Dispatch,
    SparseLayer,
    find_sparse_layers,
    holds_experts,
    inputs_for,
    read_dispatch,
    tensors_of,
)

TOKENS = 512
"""Tokens of a text that are read, unless said otherwise."""

BATCH_BYTES = 64 << 20
"""About what the probabilities of one batch take, over all layers."""

BATCH_TOKENS = 4096
"""Most tokens in a batch, padding included, unless one text alone has more."""

CHUNK = 512
"""Texts that are put in order of length together, so that a batch holds little padding."""

Dtype = Literal["auto", "float32", "bfloat16"]

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "spiece.model", "vocab.json")


@dataclass(frozen=True, eq=False)
class RoutedModel:
    """A mixture of experts that is ready to read texts.

    Attributes:
        name: What the user calls it.
        fingerprint: Digest of its files, hex.
        module: The model without its head, in evaluation mode.
        tokenizer: Its tokenizer.
        layers: Its sparse layers.
        positions: The longest text that it can read in tokens; None where it has no limit.
    """

    name: str
    fingerprint: str
    module: nn.Module
    tokenizer: Any
    layers: tuple[SparseLayer, ...]
    positions: int | None

    def limit(self, tokens: int) -> int:
        """How many tokens of a text it reads where `tokens` are wanted."""
        return tokens if self.positions is None else min(tokens, self.positions)

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return next(self.module.parameters()).device

    @property
    def shares_places(self) -> bool:
        """Whether the texts of a batch compete for the places of the experts."""
        return any(getattr(layer.router, "capacity_factor", None) is not None for layer in self.layers)


class Listener:
    """Hears the routers of sparse layers; see `listen`."""

    def __init__(self, layers: Sequence[SparseLayer]) -> None:
        self._layers = layers
        self._logits: dict[int, torch.Tensor] = {}
        self._heard: dict[int, LayerRouting] = {}
        self.rows: torch.Tensor | None = None
        """Which tokens of the next forward count, [B * S] bool; None for all."""

    def take(self) -> tuple[LayerRouting, ...]:
        """The routings of the forward since the last call, one per layer.

        Raises:
            RoutingError: A layer did not run.
        """
        heard, self._heard = self._heard, {}
        missing = [layer.name for number, layer in enumerate(self._layers) if number not in heard]
        if missing:
            raise RoutingError(f"the sparse layers {', '.join(missing)} did not run in this forward")
        return tuple(heard[number] for number in range(len(self._layers)))

    def routed(self, number: int, output: object) -> None:
        """A router has answered."""
        self._logits[number] = tensors_of(output)[self._layers[number].logits_at].detach()

    def called(self, number: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Experts are about to run."""
        layer = self._layers[number]
        dispatch = read_dispatch(layer.experts_module, args, kwargs, layer.name)
        logits = self._logits.pop(number).reshape(-1, layer.experts)
        rows = torch.ones(len(logits), dtype=torch.bool, device=logits.device) if self.rows is None else self.rows
        probabilities = layer.probabilities(logits[rows])
        experts, kept = _choices(layer, dispatch, logits)
        weights = dispatch.weights.detach().masked_fill(~kept, 0)
        self._heard[number] = LayerRouting(
            probabilities=probabilities.cpu().numpy(),
            experts=experts[rows].to(torch.int64).cpu().numpy(),
            weights=weights[rows].float().cpu().numpy(),
            kept=kept[rows].cpu().numpy(),
        )


@contextmanager
def listen(layers: Sequence[SparseLayer]) -> Iterator[Listener]:
    """Hear what the routers of these layers do, for as long as the context lasts, without changing what they do."""
    listener = Listener(layers)
    with ExitStack() as hooks:
        for number, layer in enumerate(layers):

            def routed(_: nn.Module, __: object, output: object, number: int = number) -> None:
                listener.routed(number, output)

            def called(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], number: int = number) -> None:
                listener.called(number, args, kwargs)

            hooks.callback(layer.router.register_forward_hook(routed).remove)
            hooks.callback(layer.experts_module.register_forward_pre_hook(called, with_kwargs=True).remove)
        yield listener


def _choices(layer: SparseLayer, dispatch: Dispatch, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The chosen experts and whether they had a place, both [T, k]."""
    if dispatch.mask is not None:
        kept = dispatch.mask.amax(dim=1, keepdim=True) > 0
        chosen = torch.where(kept, dispatch.mask.argmax(dim=1, keepdim=True), logits.argmax(dim=1, keepdim=True))
        return chosen, kept
    known = getattr(layer.router, "routing", None)
    if isinstance(known, Routing):
        return known.choices, known.kept
    assert dispatch.experts is not None  # noqa: S101 - a dispatch without a mask has indices
    if bool((dispatch.experts >= layer.experts).any()):
        raise RoutingError(
            f"{layer.name} has left out assignments that another process computes (expert parallelism): which experts "
            "they were for is not known here; open the model on one process"
        )
    return dispatch.experts, torch.ones_like(dispatch.experts, dtype=torch.bool)


def model_fingerprint(name: str, *, dtype: Dtype = "auto", hub_timeout_s: float = HUB_TIMEOUT_S) -> str:
    """The fingerprint that the opened model would have, without opening it.

    Raises:
        RoutedModelError: There is no such model.
    """
    return _fingerprint(_files(name, None, hub_timeout_s), dtype)


def _files(name: str, revision: str | None, hub_timeout_s: float) -> ModelFiles:
    try:
        return locate_model(name, revision=revision, hub_timeout_s=hub_timeout_s)
    except ModelFilesError as error:
        raise RoutedModelError(f"no routing of {name!r}: {error}") from error


def _fingerprint(files: ModelFiles, dtype: Dtype) -> str:
    return files.digest(f"routing {dtype}")


def open_routed_model(
    name: str,
    *,
    revision: str | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    dtype: Dtype = "auto",
    hub_timeout_s: float = HUB_TIMEOUT_S,
) -> RoutedModel:
    """Open a mixture of experts by its hub name or directory; safetensors only, and no code of the model's own.

    Args:
        name: Directory, or hub name (from the local cache, else downloaded, unless HF_HUB_OFFLINE is set).
        revision: Revision on the hub.
        device: Where it runs; auto is CUDA where it is present.
        dtype: Arithmetic; auto is what the weights are stored in.
        hub_timeout_s: Time-out of one request to the hub.

    Raises:
        RoutedModelError: There is no such model, it cannot be opened, lacks weights, or has no tokenizer.
        NotAMixtureError: It has no sparse layers that can be read.
    """
    import transformers

    import aura.experts.language.model  # noqa: F401 - makes the type aura_moe known

    files = _files(name, revision, hub_timeout_s)
    if not any((files.directory / each).is_file() for each in TOKENIZER_FILES):
        raise RoutedModelError(
            f"model {name!r} has no tokenizer in {files.directory} (looked for {', '.join(TOKENIZER_FILES)}): save it "
            "beside the weights with tokenizer.save_pretrained"
        )
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = transformers.AutoConfig.from_pretrained(files.directory, **options)
        kind: Any = (
            transformers.AutoModelForSeq2SeqLM
            if getattr(config, "is_encoder_decoder", False)
            else transformers.AutoModelForCausalLM
        )
        with torch.device("meta"):
            plan: nn.Module = kind.from_config(config, trust_remote_code=False)
        if not any(holds_experts(module) for module in plan.modules()):
            raise NotAMixtureError(
                f"model {name!r} ({config.model_type}) is not a mixture of experts that can be read: name a Switch, "
                "Mixtral, OLMoE, Qwen-MoE, DeepSeek, gpt-oss or aura_moe model"
            )
        model, report = kind.from_pretrained(
            files.directory, use_safetensors=True, dtype=dtype, output_loading_info=True, **options
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(files.directory, **options)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise RoutedModelError(f"model {name!r} cannot be opened from {files.directory}: {error}") from error
    module = model.base_model.eval()
    body = "" if module is model else f"{model.base_model_prefix}."
    if absent := sorted(key for key in report["missing_keys"] if key.startswith(body)):  # they would be random
        raise RoutedModelError(
            f"model {name!r} lacks the weights {', '.join(absent)} in {files.directory}; save or download it again"
        )
    if device == "cuda" or (device == "auto" and torch.cuda.is_available()):
        module = module.to("cuda")
    return RoutedModel(
        name=files.name,
        fingerprint=_fingerprint(files, dtype),
        module=module,
        tokenizer=tokenizer,
        layers=find_sparse_layers(module),
        positions=getattr(config.get_text_config(), "max_position_embeddings", None),
    )


def capture(
    model: RoutedModel, texts: Sequence[str], *, tokens: int = TOKENS, batch_tokens: int | None = None
) -> Iterator[RoutedBatch]:
    """Run texts through a model and give the routing of each batch; memory does not grow with their number.

    Args:
        model: The model.
        texts: The texts. One without any token is left out.
        tokens: Tokens of a text that are read, fewer if the model reads fewer.
        batch_tokens: Most tokens in a batch, padding included; by default what `BATCH_BYTES` hold.

    Yields:
        Batches; within `CHUNK` texts the longest first. The same texts give the same batches.

    Raises:
        ValueError: `tokens` is below 1.
    """
    if tokens < 1:
        raise ValueError(f"tokens is {tokens}; give at least 1")
    limit = model.limit(tokens)
    most = batch_tokens or default_batch_tokens(model)
    numbered = enumerate(texts)
    with listen(model.layers) as listener:
        while chunk := list(islice(numbered, CHUNK)):
            read = model.tokenizer([text for _, text in chunk], truncation=True, max_length=limit + 1)["input_ids"]
            rows = [(number, ids) for (number, _), ids in zip(chunk, read, strict=True) if ids]
            rows.sort(key=lambda row: -len(row[1]))
            for batch in _batches(rows, limit, most, equal_lengths=model.shares_places):
                yield _route(model, listener, batch, limit)


def frequent_ids(model: RoutedModel, texts: Sequence[str], *, tokens: int = TOKENS) -> np.ndarray:
    """The token ids of texts, as far as `capture` reads them: the most frequent first, and among equals the lowest.

    Returns:
        [ids] int64.
    """
    counts = np.zeros(1 + max(model.tokenizer.get_vocab().values()), np.int64)
    limit, remaining = model.limit(tokens), iter(texts)
    while chunk := list(islice(remaining, CHUNK)):
        read = model.tokenizer(chunk, truncation=True, max_length=limit + 1)["input_ids"]
        ids = np.concatenate([np.asarray(row[:limit], np.int64) for row in read])
        counts += np.bincount(ids, minlength=len(counts))
    order: np.ndarray = np.argsort(-counts, kind="stable")
    return order[: np.count_nonzero(counts)]


def default_batch_tokens(model: RoutedModel) -> int:
    """Tokens whose probabilities over all layers take about `BATCH_BYTES`, at most `BATCH_TOKENS`."""
    per_token = sum(4 * layer.experts for layer in model.layers)
    return max(1, min(BATCH_TOKENS, BATCH_BYTES // per_token))


def _batches(
    rows: Sequence[tuple[int, Sequence[int]]], limit: int, most: int, *, equal_lengths: bool
) -> Iterator[Sequence[tuple[int, Sequence[int]]]]:
    """Cut rows, the longest first, into batches of at most `most` tokens with padding, or of one row."""
    start = 0
    for end in range(1, len(rows) + 1):
        longest = min(limit, len(rows[start][1]))
        full = end == len(rows) or (end + 1 - start) * longest > most
        if full or (equal_lengths and min(limit, len(rows[end][1])) != longest):
            yield rows[start:end]
            start = end


def _route(
    model: RoutedModel, listener: Listener, batch: Sequence[tuple[int, Sequence[int]]], limit: int
) -> RoutedBatch:
    lengths = np.array([min(limit, len(ids)) for _, ids in batch])
    mask = np.arange(lengths.max())[None] < lengths[:, None]
    padding = model.tokenizer.pad_token_id
    ids = np.full(mask.shape, 0 if padding is None else padding, np.int64)
    ids[mask] = np.concatenate([np.asarray(row[:limit], np.int64) for _, row in batch])
    inputs = inputs_for(
        model.module,
        torch.from_numpy(ids).to(model.device),
        torch.from_numpy(mask.astype(np.int64)).to(model.device),
    )
    listener.rows = torch.from_numpy(mask.ravel()).to(model.device)
    with torch.no_grad():
        model.module(**inputs, use_cache=False)
    read: dict[Stack, np.ndarray] = {}
    if "decoder_input_ids" in inputs:
        read = {"encoder": ids[mask], "decoder": inputs["decoder_input_ids"].cpu().numpy()[mask]}
    else:
        read = {"decoder": ids[mask]}
    return RoutedBatch(
        texts=np.repeat(np.array([number for number, _ in batch], np.int64), lengths),
        tokens=read,
        layers=listener.take(),
        truncated=sum(len(row) > limit for _, row in batch),
    )
