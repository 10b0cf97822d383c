"""Inference with experts in the tiers: prefill and decoding of a model whose dense part alone is in memory.

Belongs here: opening a model in one of the modes, requests and their figures. Does not: the kernel, the modes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import numpy as np
import torch  # noqa: TID253 - only inference imports this module
from numpy.typing import NDArray
from torch import nn  # noqa: TID253
from torch.nn import functional  # noqa: TID253
from transformers import LogitsProcessor, LogitsProcessorList, SwitchTransformersConfig  # noqa: TID253

from aura.experts.offload.checkpoint import fingerprint, open_complete, open_shell
from aura.experts.offload.errors import ModelFilesError, OffloadError
from aura.experts.offload.figures import Generation, Mode, RunFigures
from aura.experts.offload.forecast import Floats, RequestForecast, TransitionForecast
from aura.experts.offload.kernel import Weights, resident
from aura.experts.offload.layout import expert_layers
from aura.experts.offload.planned import Gate, Planned
from aura.experts.offload.residency import Cold, InPlace, Lru, Residency
from aura.experts.offload.shelf import Shelf, Traffic
from aura.experts.offload.store import ExpertModel, ExpertStore
from aura.tiers.records import Tier
from aura.tiers.store import TieredStore

logger = logging.getLogger(__name__)


class _Layer:
    """The `Source` of one layer."""

    def __init__(self, runtime: ExpertRuntime, layer: int, module: nn.Module) -> None:
        self._runtime = runtime
        self._layer = layer
        self._module = module

    def each(
        self, hidden: torch.Tensor, experts: Sequence[int], tokens: Sequence[int], dropped: int
    ) -> Iterable[tuple[int, Weights]]:
        """See `Source`."""
        self._runtime.note(self._layer, len(hidden), experts, tokens, dropped)
        residency = self._runtime.residency
        if residency is None:
            return resident(self._module, experts)
        return residency.each(self._layer, hidden, experts, tokens)


class _Follow(LogitsProcessor):
    """Leaves one choice, the next token of a given text, as long as there is one."""

    def __init__(self, text: Sequence[int], start: int) -> None:
        self._text = text
        self._start = start

    def __call__(self, input_ids: torch.LongTensor, scores: torch.Tensor) -> torch.Tensor:
        place = input_ids.shape[1] - self._start
        if place >= len(self._text):
            return scores
        only = torch.full_like(scores, -torch.inf)
        only[:, self._text[place]] = 0
        return only


class ExpertRuntime:
    """A language model whose experts come from the store at each use. One request at a time; a context manager.

    All is computed by the CPU, also where there is a GPU: fast memory is L1 or L2, and an expert in the device tier
    (L0) is read as a copy in host memory at each use.

    Attributes:
        model: What the store says of it.
        network: The network of `transformers`, its experts computed by our kernel.
        cycle_bytes: Bytes of the experts that one token uses.
        short_of_cycle: (budget, bytes of one cycle) where the former is less; else None.
    """

    def __init__(
        self,
        store: TieredStore,
        name: str,
        *,
        mode: Mode | str = Mode.PLANNED,
        budget_bytes: int | None = None,
        transitions: Floats | None = None,
        past: Iterable[NDArray[np.int64]] = (),
        on_request: Callable[[NDArray[np.int64]], None] = lambda _: None,
        seed: int = 0,
    ) -> None:
        """Open a model that was put into the store.

        Args:
            store: Where its experts are; stays the caller's to close.
            name: Its name there.
            mode: How experts get into fast memory.
            budget_bytes: Bytes that its experts may take of the fast tier, for `lru` and `planned`; None is all that
                the tier has.
            transitions: Counts that the transition forecast begins with, float64[layers - 1, E, E], such as those of a
                routing table (`aura.experts.offload.forecast.transition_counts`).
            past: Activations of earlier requests, int64[layers, E] each (`aura.experts.offload.past`), for `planned`.
            on_request: Is given the activations of each request, int64[layers, E], when it is over. If it fails, that
                is logged.
            seed: Of the kinds of prompts, which `planned` tells apart.

        Raises:
            UnknownModelError: The store has no such model.
            ModelFilesError: Its directory is gone or has changed.
            OffloadError: The store has no fast tier, or the model is not in host memory.
        """
        self.mode = Mode(mode)
        self.model = ExpertStore(store).model(name)
        self._on_request = on_request
        directory = _unchanged(self.model)
        self.network = _on_host((open_complete if self.mode is Mode.RESIDENT else open_shell)(directory))
        layers = expert_layers(self.network)
        choices = _choices(self.network)
        self.shelf = Shelf(store, self.model, budget_bytes)
        per_layer = [int(self.shelf.sizes[first]) for first in self.shelf.first[:-1]]
        self.cycle_bytes = choices * sum(per_layer)
        self.short_of_cycle = self._short()
        self._kinds = RequestForecast(choices, seed=seed)
        for activations in past:
            self._kinds.remember(activations)
        self._activations = np.zeros((self.model.layers, max(self.model.experts)), dtype=np.int64)
        self._given, self._dropped = (np.zeros(self.model.layers, dtype=np.int64) for _ in range(2))
        self._layer = -1
        self._prefilled: float | None = None
        forecast = TransitionForecast(self.model.experts, choices, transitions)
        if self.mode in (Mode.LRU, Mode.PLANNED):
            self.shelf.fit()
        # Last, since it may have a thread that `close` ends.
        self.residency = self._made(forecast, [_gate(self.network, layer.name) for layer in layers])
        for number, layer in enumerate(layers):
            cast("Any", layer.module).source = _Layer(self, number, layer.module)

    def generate(
        self,
        prompt: Sequence[int],
        *,
        max_new_tokens: int = 32,
        min_new_tokens: int = 0,
        temperature: float = 0.0,
        seed: int = 0,
        follow: Sequence[int] = (),
    ) -> Generation:
        """Answer one request.

        Args:
            prompt: Ids of its tokens.
            max_new_tokens: Tokens after which generation stops.
            min_new_tokens: Tokens before which it does not stop, whatever the model says.
            temperature: Of sampling; 0 takes the likeliest token.
            seed: Of sampling.
            follow: Tokens to take first in place of those that the model would choose, to see what real text costs.

        Raises:
            ValueError: The prompt is empty, or a number is out of its range.
            StoreError: The store failed.
        """
        if not prompt or max_new_tokens < 1 or temperature < 0:
            raise ValueError(
                f"a prompt of {len(prompt)} tokens, max_new_tokens {max_new_tokens}, temperature {temperature}: all but"
                " the temperature have to be above zero, and it must not be below"
            )
        given = torch.tensor([list(prompt)])
        vector = self._prompt_vector(given)
        kind = self._begin(vector)
        start, cpu = time.perf_counter(), time.process_time()
        try:
            lengths = {"max_new_tokens": max_new_tokens, "min_new_tokens": min_new_tokens}
            sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {}
            answer = self._generated(given, follow, {"do_sample": False, **lengths, **sampling}, seed)
        finally:
            self._ended()
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        tokens = answer[0, self._start(given) :].numpy()
        activations = self._activations.copy()
        if self.mode is Mode.PLANNED:  # no other mode expects anything
            self._kinds.note(vector, activations)
        try:
            self._on_request(activations)
        except Exception:
            # The answer is there, whatever becomes of who wants to know of it.
            logger.exception("the activations of a request to %s could not be told", self.model.name)
        prefill = seconds if self._prefilled is None else self._prefilled - start
        found = RunFigures(self.mode, len(prompt), len(tokens), seconds, prefill, cpu, kind=kind)
        return Generation(tokens, activations, self._given.copy(), self._dropped.copy(), self._counted(found))

    def close(self) -> None:
        """Release what is not the store's."""
        if self.residency is not None:
            self.residency.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def note(self, layer: int, given: int, experts: Sequence[int], tokens: Sequence[int], dropped: int) -> None:
        """Count what a layer uses. Called by the layers."""
        if layer <= self._layer and self._prefilled is None:  # the layers begin again: the first token is there
            self._prefilled = time.perf_counter()
        self._layer = layer
        self._activations[layer, list(experts)] += np.asarray(tokens, dtype=np.int64)
        self._given[layer] += given
        self._dropped[layer] += dropped

    def _begin(self, vector: NDArray[np.float32]) -> int:
        """A request begins: what kind it is, and what follows from that."""
        for counts in (self._activations, self._given, self._dropped):
            counts[:] = 0
        self._layer = -1
        self._prefilled = None
        self.shelf.traffic = Traffic(dict.fromkeys(Tier, 0))
        kind = self._kinds.kind(vector)
        residency = self.residency
        if residency is not None:
            residency.hits = residency.misses = 0
            residency.begin()
        if isinstance(residency, Planned):
            residency.useful = residency.useless = 0
            residency.expect(self._kinds.expected(kind))
        return kind

    def _ended(self) -> None:
        if self.residency is not None:
            self.residency.end()

    def _generated(
        self, given: torch.Tensor, follow: Sequence[int], options: Mapping[str, object], seed: int
    ) -> torch.Tensor:
        """int64[1, n], as the model's own `generate` answers, the prompt included where it decodes only."""
        network = cast("Any", self.network)
        padding = network.generation_config.pad_token_id
        with torch.inference_mode(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            answer = network.generate(
                given,
                attention_mask=torch.ones_like(given),
                pad_token_id=0 if padding is None else padding,
                use_cache=True,
                logits_processor=LogitsProcessorList([_Follow(follow, self._start(given))] if follow else []),
                **options,
            )
        return cast("torch.Tensor", answer)

    def _start(self, given: torch.Tensor) -> int:
        """Tokens before the first new one: the prompt, or the one that a decoder beside an encoder begins with."""
        return 1 if cast("Any", self.network).config.is_encoder_decoder else given.shape[1]

    def _counted(self, found: RunFigures) -> RunFigures:
        """With what the mode counted."""
        residency = self.residency
        if residency is None:
            return found
        traffic = self.shelf.traffic
        found = replace(
            found,
            hits=residency.hits,
            misses=residency.misses,
            reads={tier: count for tier, count in traffic.reads.items() if count},
            bytes_read=traffic.bytes_read,
            moved=traffic.moved,
            waited_seconds=traffic.waited_seconds,
        )
        if isinstance(residency, Planned):
            ways = residency.decoding
            found = replace(
                found, useful=residency.useful, useless=residency.useless, ways=ways.seconds, way=ways.current
            )
        return found

    def _made(self, forecast: TransitionForecast, gates: Sequence[Gate | None]) -> Residency | None:
        if self.mode is Mode.RESIDENT:
            return None
        if self.mode is Mode.COLD:
            return Cold(self.shelf)
        if self.mode is Mode.LRU:
            return Lru(self.shelf)
        if self.mode is Mode.PLANNED:
            return Planned(self.shelf, forecast, gates)
        return InPlace(self.shelf)

    def _short(self) -> tuple[int, int] | None:
        """Whether the budget is below one cycle; warns then."""
        budget = self.shelf.budget_bytes
        if self.mode in (Mode.RESIDENT, Mode.COLD) or budget >= self.cycle_bytes:
            return None
        logger.warning(
            "the budget of %d bytes is below one cycle of layers: one token of %s uses experts of %d bytes, so"
            " whatever is evicted is evicted before it is used again. Give fast memory %d bytes more.",
            *(budget, self.model.name, self.cycle_bytes, self.cycle_bytes - budget),
        )
        return budget, self.cycle_bytes

    def _prompt_vector(self, given: torch.Tensor) -> NDArray[np.float32]:
        """float32[d], the mean of the embeddings of a prompt's tokens, of length one."""
        with torch.inference_mode():
            mean = cast("Any", self.network).get_input_embeddings()(given)[0].float().mean(dim=0)
            return cast("NDArray[np.float32]", functional.normalize(mean, dim=0).numpy())


def _unchanged(model: ExpertModel) -> Path:
    directory = Path(model.source)
    if fingerprint(directory) != model.fingerprint:
        raise ModelFilesError(
            f"{directory} has changed since its experts were put into the store as {model.name!r}; put it in again"
        )
    return directory


def _choices(network: nn.Module) -> int:
    """Experts that a token uses in a layer.

    Raises:
        ModelFilesError: The configuration does not say.
    """
    whole = cast("Any", network).config
    text = whole.get_text_config(decoder=True)
    if isinstance(whole, SwitchTransformersConfig):
        return 1
    for config in (text, whole):
        for name in ("num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk", "top_k_experts", "top_k"):
            found = getattr(config, name, None)
            if isinstance(found, int) and found > 0:
                return found
    raise ModelFilesError(
        f"the configuration of {type(network).__name__} does not say how many experts a token uses in a layer; give"
        " config.json num_experts_per_tok"
    )


def _on_host(network: nn.Module) -> nn.Module:
    """A network that can be computed here.

    Raises:
        OffloadError: Some of it is elsewhere than in host memory.
    """
    found = next((each for each in network.parameters() if each.device.type != "cpu"), None)
    if found is not None:
        raise OffloadError(
            f"the model is on {found.device}; experts in the tiers are computed by the CPU alone: open it without a"
            " device map and with torch's default device cpu"
        )
    return network


def _gate(network: nn.Module, experts: str) -> Gate | None:
    """The gate beside a layer's experts, if it is one that answers with indices."""
    block = network.get_submodule(experts.rpartition(".")[0])
    module = next((getattr(block, name) for name in ("gate", "router") if hasattr(block, name)), None)
    if not isinstance(module, nn.Module):
        return None

    def chosen(hidden: torch.Tensor) -> Sequence[int] | None:
        answer = module(hidden)
        index = answer[-1] if isinstance(answer, tuple) else answer
        return index.unique().tolist() if index.dtype == torch.int64 and index.ndim == 2 else None

    return chosen
