"""The sparse layers of a model, found by what its modules are and do, not by the names of architectures.

Belongs here: which module holds the experts, which one chose them, how its logits become probabilities. Does not:
running texts (`capture`).

An experts module is one that `transformers` calls through its experts interface, with the chosen experts and their
weights beside the tokens, or a dictionary of experts that is called with a dispatch mask (Switch). Its router is the
module of the same block whose output that choice was. Both show in one forward of a few tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import torch  # noqa: TID253 - a module of neural networks; nothing light imports it
from torch import nn  # noqa: TID253

from aura.experts.routing.batch import Stack
from aura.experts.routing.errors import NotAMixtureError

Scoring = Literal["softmax", "sigmoid", "sqrtsoftplus", "probabilities"]
Answers = Mapping[str, tuple[torch.Tensor, ...]]
"""The tensors that each module beside the experts answered, by the module's name in their block."""

PROBE_TOKENS = 16
"""Tokens of the forward that shows which module is the router of which experts."""

SCORINGS: Mapping[Scoring, Callable[[torch.Tensor], torch.Tensor]] = {
    "softmax": lambda logits: torch.softmax(logits, dim=-1),
    "sigmoid": torch.sigmoid,
    "sqrtsoftplus": lambda logits: nn.functional.softplus(logits).sqrt(),
    "probabilities": lambda logits: logits,
}
"""How a router's output [..., E] becomes scores, by name."""

FIT = 0.02
"""Relative error up to which scores explain the weights: twice what bfloat16 rounds."""


@dataclass(frozen=True, eq=False)
class SparseLayer:
    """One layer with experts.

    Attributes:
        name: Name of its block in the model, such as "model.layers.3.mlp".
        stack: Which stack it belongs to; "decoder" in a model with one stack.
        experts_module: Is called with what was chosen.
        router: Chooses.
        experts: Number of routed experts E; shared ones are not routed and do not count.
        top_k: Experts per token k.
        logits_at: Position of the router logits [..., E] among the router's outputs.
        scoring: How logits become scores, see `SCORINGS`.
    """

    name: str
    stack: Stack
    experts_module: nn.Module
    router: nn.Module
    experts: int
    top_k: int
    logits_at: int
    scoring: Scoring

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Router probabilities [T, E], float32, rows sum to one.

        Sigmoid scores are divided by their sum over the experts (DeepSeek-V3, arXiv 2412.19437, eq. 19).
        """
        scores: torch.Tensor = SCORINGS[self.scoring](logits.float())
        return scores / scores.sum(dim=-1, keepdim=True)


@dataclass(frozen=True, eq=False)
class Dispatch:
    """What an experts module was called with.

    Attributes:
        mask: The dispatch mask [T, E], where the experts take one; None where they take indices.
        experts: The chosen experts [T, k]; E where an assignment was dropped. None where the experts take a mask.
        weights: Their weights [T, k].
        given: The two tensors as they were given, to be recognised among a router's outputs.
    """

    mask: torch.Tensor | None
    experts: torch.Tensor | None
    weights: torch.Tensor
    given: tuple[torch.Tensor, torch.Tensor]


def find_sparse_layers(model: nn.Module) -> tuple[SparseLayer, ...]:
    """The sparse layers in the order in which they run; runs the model once on a few tokens.

    Layers that text does not reach, such as those of an image tower, are left out.

    Raises:
        NotAMixtureError: There are none, or the model's way of routing cannot be read.
    """
    holders = {name: module for name, module in model.named_modules() if holds_experts(module)}
    if not holders:
        raise NotAMixtureError(
            f"{type(model).__name__} is not a mixture of experts that can be read: none of its modules is called "
            "through transformers' experts interface or holds a module per expert; name a Switch, Mixtral, OLMoE, "
            "Qwen-MoE, DeepSeek, gpt-oss or aura_moe model"
        )
    calls, answers = _probe(model, holders)
    if not calls:
        raise NotAMixtureError(f"{type(model).__name__} runs none of its {len(holders)} sparse layers on text")
    encoder = _encoder_modules(model)
    return tuple(
        _layer(model, name, dispatch, answers[name], "encoder" if id(holders[name]) in encoder else "decoder")
        for name, dispatch in calls.items()
    )


def read_dispatch(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], name: str) -> Dispatch:
    """What an experts module was called with: its second and third argument.

    Raises:
        NotAMixtureError: They are neither indices nor a dispatch mask, with weights.
    """
    chosen, weights = [*args, *kwargs.values(), None, None][1:3]
    if isinstance(chosen, torch.Tensor) and isinstance(weights, torch.Tensor) and not chosen.is_floating_point():
        if _follows_interface(module) and chosen.ndim == 2 and chosen.shape == weights.shape:
            return Dispatch(None, chosen, weights, (chosen, weights))
        one_each = chosen.ndim == 3 and chosen.shape[1:] == (1, number_of_experts(module))
        if not _follows_interface(module) and one_each and weights.shape == (len(chosen), 1):
            return Dispatch(chosen.squeeze(1), None, weights, (chosen, weights))
    got = " and ".join(
        f"{each.dtype}{list(each.shape)}" if isinstance(each, torch.Tensor) else type(each).__name__
        for each in (chosen, weights)
    )
    raise NotAMixtureError(
        f"the experts {name} ({type(module).__name__}) are called with {got}; expected chosen experts [T, k] or a "
        f"dispatch mask [T, 1, {number_of_experts(module)}], and their weights: such a routing cannot be read"
    )


def tensors_of(answer: object) -> tuple[torch.Tensor, ...]:
    """The tensors among what a module answered, in order."""
    answers = answer if isinstance(answer, tuple | list) else (answer,)
    return tuple(each for each in answers if isinstance(each, torch.Tensor))


def inputs_for(model: nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """The arguments that run a model on token ids and their mask [B, S].

    A decoder beside an encoder reads the same text one place to the right (teacher forcing).
    """
    config: Any = model.config
    inputs = {"input_ids": ids, "attention_mask": mask}
    if getattr(config, "is_encoder_decoder", False):
        inputs |= {"decoder_input_ids": shifted(config, ids), "decoder_attention_mask": mask}
    return inputs


def shifted(config: Any, ids: torch.Tensor) -> torch.Tensor:  # noqa: ANN401 - a configuration of transformers
    """Token ids [B, S] one place to the right, behind the decoder's start token."""
    known = (getattr(config, name, None) for name in ("decoder_start_token_id", "pad_token_id"))
    start = next((token for token in known if token is not None), 0)
    return torch.cat([torch.full_like(ids[:, :1], start), ids[:, :-1]], dim=1)


def holds_experts(module: nn.Module) -> bool:
    """Whether a module holds the experts of a sparse layer."""
    stated = getattr(module, "num_experts", None)
    one_each = isinstance(module, nn.ModuleDict) and isinstance(stated, int) and len(module) >= stated
    return one_each or _follows_interface(module)


def number_of_experts(module: nn.Module) -> int:
    """The number of routed experts E that an experts module holds."""
    stated = getattr(module, "num_experts", None)
    return int(stated) if stated is not None else len(next(module.parameters()))


def _follows_interface(module: nn.Module) -> bool:
    """Whether `transformers.integrations.moe.use_experts_implementation` made this class."""
    return hasattr(module, "_is_expert_parallel") and hasattr(module, "_apply_gate")


def _encoder_modules(model: nn.Module) -> set[int]:
    config: Any = model.config
    if not getattr(config, "is_encoder_decoder", False):
        return set()
    encoder: nn.Module = model.get_encoder()  # type: ignore[operator]
    return {id(module) for module in encoder.modules()}


def _probe(model: nn.Module, holders: Mapping[str, nn.Module]) -> tuple[dict[str, Dispatch], dict[str, Answers]]:
    """Run a few tokens; what each experts module was called with, and what the modules beside it had answered."""
    calls: dict[str, Dispatch] = {}
    answers: dict[str, dict[str, tuple[torch.Tensor, ...]]] = {name: {} for name in holders}

    def called(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if name in calls:
                raise NotAMixtureError(f"the experts {name} run twice in one forward: such a routing cannot be read")
            calls[name] = read_dispatch(module, args, kwargs, name)

        return hook

    def answered(name: str, beside: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: object, output: object) -> None:
            answers[name][beside] = tensors_of(output)

        return hook

    with ExitStack() as hooks:
        for name, module in holders.items():
            hooks.callback(module.register_forward_pre_hook(called(name), with_kwargs=True).remove)
            for beside, sibling in model.get_submodule(name.rpartition(".")[0]).named_children():
                if sibling is not module:
                    hooks.callback(sibling.register_forward_hook(answered(name, beside)).remove)
        config: Any = model.config
        first = next(model.parameters())
        ids = torch.arange(min(PROBE_TOKENS, config.get_text_config().vocab_size), device=first.device)[None]
        for module in model.modules():
            hooks.callback(setattr, module, "training", module.training)
        model.eval()
        with torch.no_grad():
            model(**inputs_for(model, ids, torch.ones_like(ids)), use_cache=False)
    return calls, dict(answers)


def _layer(model: nn.Module, name: str, dispatch: Dispatch, answers: Answers, stack: Stack) -> SparseLayer:
    block, module = name.rpartition(".")[0], model.get_submodule(name)
    experts = number_of_experts(module)
    beside, at = _router(name, experts, dispatch, answers)
    return SparseLayer(
        name=block,
        stack=stack,
        experts_module=module,
        router=model.get_submodule(f"{block}.{beside}" if block else beside),
        experts=experts,
        top_k=dispatch.weights.shape[1],
        logits_at=at,
        scoring=_scoring(answers[beside][at].reshape(-1, experts), dispatch),
    )


def _router(name: str, experts: int, dispatch: Dispatch, answers: Answers) -> tuple[str, int]:
    """The module that chose, and the position of the logits among its outputs.

    It is the one whose output the experts were given, or else the one whose only output is a row of E per token.
    """
    tokens = len(dispatch.weights)
    given = {_memory(each) for each in dispatch.given}
    for beside, outputs in answers.items():
        chose = any(_memory(each) in given for each in outputs)
        rows = [
            at
            for at, each in enumerate(outputs)
            if each.is_floating_point() and each.shape[-1:] == (experts,) and each.numel() == tokens * experts
        ]
        logits = [at for at in rows if _memory(outputs[at]) not in given]
        if logits and (chose or len(outputs) == 1):
            return beside, logits[0]
    raise NotAMixtureError(
        f"no module beside the experts {name} gives one number per token and expert: its router cannot be told"
    )


def _memory(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _scoring(logits: torch.Tensor, dispatch: Dispatch) -> Scoring:
    """The scores that are in proportion to the weights that the experts were given; softmax if none is."""
    logits = logits.double()
    if bool((logits >= 0).all()) and torch.allclose(logits.sum(dim=-1), logits.new_ones(()), atol=FIT):
        return "probabilities"
    chosen = dispatch.experts if dispatch.experts is not None else logits.argmax(dim=-1, keepdim=True)
    errors = {
        name: _misfit(score(logits).gather(1, chosen.clamp(max=logits.shape[1] - 1)), dispatch.weights.double())
        for name, score in SCORINGS.items()
        if name != "probabilities"
    }
    best = min(errors, key=lambda name: errors[name])
    return best if errors[best] < min(FIT, errors["softmax"]) else "softmax"


def _misfit(scores: torch.Tensor, weights: torch.Tensor) -> float:
    """How far weights over scores [T, k] are from one factor per token (k > 1) or for all tokens (k = 1)."""
    ratio = torch.where(weights > 0, weights / scores, torch.nan)
    factor = ratio.nanmean(dim=1, keepdim=True) if ratio.shape[1] > 1 else ratio.nanmean()
    return float((ratio / factor - 1).abs().nan_to_num().mean())
