"""The two networks of a comparison: a model with experts, and its dense twin of equal active parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch  # noqa: TID253 - builds neural networks; nothing light imports this module
from torch import nn  # noqa: TID253
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM  # noqa: TID253

from aura.experts.language.model import AuraMoeConfig, AuraMoeForCausalLM
from aura.experts.language.presets import LanguageConfig, PairCost
from aura.tiers.values import Tensors

END_OF_TEXT_ID = 0

Network = TypeVar("Network", bound=PreTrainedModel)


class PairError(ValueError):
    """Weights that do not fit the networks of their settings."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Both networks, in training mode.

    Attributes:
        moe: The model with experts.
        dense: Its twin.
    """

    moe: AuraMoeForCausalLM
    dense: Qwen3ForCausalLM


def build_pair(config: LanguageConfig, vocabulary: int) -> Pair:
    """Both networks with initial weights; whatever both have, embeddings, attention, norms and head, begins alike.

    Experts begin with an output that is as large as that of the twin's block: their weights sum to one where the twin
    sums over its whole block, so the last projection of an expert is drawn k times as wide.

    Args:
        config: Sizes and seed.
        vocabulary: Tokens of the tokenizer.

    Raises:
        PairError: The networks are not of equal active size, router apart; then a comparison would say nothing.
    """
    moe, dense = build_moe(config, vocabulary), build_dense(config, vocabulary)
    with torch.no_grad():
        beginning = dense.state_dict()
        for name, tensor in moe.state_dict().items():
            if name in beginning:
                tensor.copy_(beginning[name])
        for layer in moe.model.layers:
            layer.mlp.experts.down_proj.mul_(config.experts_per_token)
    _check_sizes(moe, dense, PairCost.of(config, vocabulary))
    return Pair(on_device(moe, config), on_device(dense, config))


def build_dense(config: LanguageConfig, vocabulary: int) -> Qwen3ForCausalLM:
    """The twin with initial weights."""
    with _seeded(config.seed):
        return Qwen3ForCausalLM(Qwen3Config(**_sizes(config, vocabulary)))


def build_moe(config: LanguageConfig, vocabulary: int) -> AuraMoeForCausalLM:
    """The model with experts, with initial weights."""
    settings = AuraMoeConfig(
        **_sizes(config, vocabulary),
        moe_intermediate_size=config.expert_hidden,
        num_experts=config.experts,
        num_experts_per_tok=config.experts_per_token,
        norm_topk_prob=config.experts_per_token > 1,
        balancing=config.balancing,
        router_aux_loss_coef=config.load_balance_weight,
        router_z_loss_coef=config.z_loss_weight,
        bias_rate=config.bias_rate,
    )
    with _seeded(config.seed):
        return AuraMoeForCausalLM(settings)


def on_device(model: Network, config: LanguageConfig) -> Network:
    """The network where it is to be trained, in training mode."""
    module: nn.Module = model
    module.to(config.device).train()
    return model


def fill(model: PreTrainedModel, tensors: Tensors) -> None:
    """Put weights into a network and set it to evaluation; raises PairError where they are another network's."""
    try:
        model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in tensors.items()})
    except RuntimeError as error:
        raise PairError(f"the weights do not fit their settings: {error}") from error
    model.train(mode=False)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Initial weights, which are drawn on the CPU, from this seed; the generator goes on as if none had been drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _sizes(config: LanguageConfig, vocabulary: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": config.width,
        "intermediate_size": config.hidden,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.heads,
        "head_dim": config.width // config.heads,
        "max_position_embeddings": config.sequence,
        "initializer_range": config.initial_scale,
        "tie_word_embeddings": False,
        "bos_token_id": END_OF_TEXT_ID,
        "eos_token_id": END_OF_TEXT_ID,
        "pad_token_id": None,
    }


def _check_sizes(moe: AuraMoeForCausalLM, dense: Qwen3ForCausalLM, cost: PairCost) -> None:
    counted = (
        sum(parameter.numel() for parameter in moe.parameters()),
        sum(parameter.numel() for parameter in dense.parameters()),
    )
    if counted != (cost.moe.parameters, cost.dense.parameters):
        raise PairError(f"the networks have {counted} parameters, their cost was counted for {cost}")
    if cost.moe.active_parameters - cost.router_parameters != cost.dense.active_parameters:
        raise PairError(f"the networks differ in active parameters by more than the router: {cost}")
