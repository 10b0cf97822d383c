"""A language model of `transformers` whose routers are `ExpertGate`: type `aura_moe`, known to the Auto classes.

Attention, norms, experts and everything around them are those of Qwen3-MoE, so the dense twin is a `Qwen3ForCausalLM`
of the same sizes. Importing this module registers the type; then `AutoModelForCausalLM.from_pretrained(directory)`
opens it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

import torch  # noqa: TID253 - a module of neural networks; nothing light imports it
from torch import nn  # noqa: TID253
from transformers import AutoConfig, AutoModelForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM  # noqa: TID253
from transformers import initialization as init  # noqa: TID253
from transformers.modeling_outputs import MoeCausalLMOutputWithPast  # noqa: TID253
from transformers.models.qwen3_moe.modeling_qwen3_moe import (  # noqa: TID253
    Qwen3MoeAttention,
    Qwen3MoeDecoderLayer,
    Qwen3MoeModel,
    Qwen3MoePreTrainedModel,
    Qwen3MoeSparseMoeBlock,
)
from transformers.utils.generic import can_return_tuple  # noqa: TID253
from transformers.utils.output_capturing import OutputRecorder  # noqa: TID253

from aura.experts import kernels
from aura.experts.gating import Balancing, ExpertGate, Routing
from aura.experts.losses import load_balancing_loss, router_z_loss

ALIGNMENT = 64
"""Bytes: where torch lets the memory of a tensor begin."""


class AuraMoeConfig(Qwen3MoeConfig):  # type: ignore[no-untyped-call]
    """The settings of Qwen3-MoE and those of the gates.

    Padding, as a 2-D attention mask tells it, is sent to no expert, takes no place of a capacity, and counts neither in
    loads nor in the routers' losses nor for the bias. A mask of another shape tells of no padding.

    Attributes:
        num_experts: Experts of a layer E.
        num_experts_per_tok: Choices of a token k.
        norm_topk_prob: Divide the k weights by their sum; not with k = 1, see `ExpertGate`.
        capacity_factor: Places per expert over the fair share; None drops nothing.
        batch_priority: Give out places by probability in place of by arrival.
        jitter: Half-width of the noise on the router's input in training.
        balancing: "loss" or "bias", see `ExpertGate`.
        router_aux_loss_coef: Weight of the load-balancing loss of each layer; not used with balancing "bias".
        router_z_loss_coef: Weight of the z-loss of each layer.
        bias_rate: Step of the bias for balancing "bias" (arXiv 2408.15664, section 4).
    """

    model_type = "aura_moe"

    num_experts: int = 8
    num_experts_per_tok: int = 1
    norm_topk_prob: bool = False
    capacity_factor: float | int | None = None
    batch_priority: bool = True
    jitter: float = 0.0
    balancing: Balancing = "loss"
    router_aux_loss_coef: float = 0.01
    router_z_loss_coef: float = 0.001
    bias_rate: float = 0.001

    def __post_init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - whatever transformers passes
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]
        if self.balancing not in get_args(Balancing):
            raise ValueError(f"balancing is {self.balancing!r}; give one of {', '.join(get_args(Balancing))}")
        if self.capacity_factor is not None and self.capacity_factor <= 0:
            raise ValueError(f"capacity_factor is {self.capacity_factor}; give a positive number, or None for no drops")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"jitter is {self.jitter}; give a number from 0 to below 1")


@dataclass
class AuraMoeOutput(MoeCausalLMOutputWithPast):
    """What the model answers with; `loss` is, in training, the weighted sum of the three parts below.

    Attributes:
        cross_entropy: Nats per token, a scalar.
        load_balancing_loss: Of each sparse layer [layers], without its weight: 1 when balanced, E / k when collapsed.
        router_z_loss: Of each sparse layer [layers], without its weight.
    """

    cross_entropy: torch.Tensor | None = None
    load_balancing_loss: torch.Tensor | None = None
    router_z_loss: torch.Tensor | None = None


class AuraMoeDecoderLayer(Qwen3MoeDecoderLayer):  # type: ignore[no-untyped-call]
    """A layer of Qwen3-MoE whose gate gets to know which tokens are padding, each time that it runs."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        *args: Any,  # noqa: ANN401 - passed on to transformers
        present: torch.Tensor | None = None,
        **kwargs: Any,  # noqa: ANN401 - likewise
    ) -> torch.Tensor:
        """As that of `Qwen3MoeDecoderLayer`; `present` as in `ExpertGate`."""
        if isinstance(self.mlp, Qwen3MoeSparseMoeBlock):
            self.mlp.gate.present = present  # type: ignore[assignment]
            if present is not None:
                _expect_drops(self.mlp)
        return super().forward(hidden_states, *args, **kwargs)


class AuraMoePreTrainedModel(Qwen3MoePreTrainedModel):  # type: ignore[no-untyped-call]
    """What the model and its head share: the gates' initialisation, and where router logits are taken from."""

    config_class = AuraMoeConfig
    config: AuraMoeConfig
    _no_split_modules = ["AuraMoeDecoderLayer"]  # noqa: RUF012 - a class attribute that transformers reads
    _can_record_outputs = {  # noqa: RUF012 - a class attribute that transformers reads
        "router_logits": OutputRecorder(ExpertGate, index=0),
        "hidden_states": Qwen3MoeDecoderLayer,
        "attentions": Qwen3MoeAttention,
    }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        if isinstance(module, ExpertGate):
            init.normal_(module.weight, mean=0.0, std=self.config.initializer_range)
            if module.balancing == "bias":
                init.zeros_(module.bias)
                init.zeros_(module.assigned)

    @classmethod
    def _can_set_experts_implementation(cls) -> bool:
        return True

    def get_correct_experts_implementation(self, requested_experts: str | None) -> str:
        """The implementation that was asked for; our own when none was."""
        found: str = super().get_correct_experts_implementation(requested_experts or kernels.NAME)
        return found


class AuraMoeModel(AuraMoePreTrainedModel, Qwen3MoeModel):  # type: ignore[no-untyped-call]
    """Embeddings and decoder layers."""

    def __init__(self, config: AuraMoeConfig) -> None:
        super().__init__(config)
        for layer in self.layers:
            if isinstance(layer.mlp, Qwen3MoeSparseMoeBlock):
                layer.mlp.gate = ExpertGate(  # type: ignore[assignment]
                    config.hidden_size,
                    config.num_experts,
                    config.num_experts_per_tok,
                    normalise=config.norm_topk_prob,
                    capacity_factor=config.capacity_factor,
                    batch_priority=config.batch_priority,
                    jitter=config.jitter,
                    balancing=config.balancing,
                )
                if config.capacity_factor is not None:
                    _expect_drops(layer.mlp)
            layer.__class__ = AuraMoeDecoderLayer
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Any,  # noqa: ANN401 - passed on to transformers
    ) -> Any:  # noqa: ANN401 - what transformers answers with
        """As that of `Qwen3MoeModel`; the gates get to know which tokens are padding."""
        embedded = kwargs.get("inputs_embeds")
        given = input_ids if embedded is None else embedded
        present = _present(attention_mask, 0 if given is None else given.shape[1])
        return super().forward(input_ids, attention_mask, present=present, **kwargs)


class AuraMoeForCausalLM(AuraMoePreTrainedModel, Qwen3MoeForCausalLM):  # type: ignore[no-untyped-call]
    """The model with its head and its losses."""

    def __init__(self, config: AuraMoeConfig) -> None:
        Qwen3MoePreTrainedModel.__init__(self, config)
        self.model = AuraMoeModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as transformers declares it
        """Open a directory; the model answers with the same bits as the one that was saved.

        Matrices that were mapped from a file lie anywhere, and the order in which a product of matrices adds up depends
        on where they lie: they are moved to where torch puts new ones.
        """
        opened = super().from_pretrained(*args, **kwargs)
        model = opened[0] if isinstance(opened, tuple) else opened
        for parameter in model.parameters():
            if parameter.device.type == "cpu" and parameter.data_ptr() % ALIGNMENT:
                parameter.data = parameter.data.clone()
        return opened

    @can_return_tuple  # type: ignore[untyped-decorator]
    def forward(  # type: ignore[no-untyped-def]
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs,  # noqa: ANN003 - passed on to transformers
    ) -> AuraMoeOutput:
        """Logits, and with labels the losses.

        Args:
            input_ids: Tokens [batch, sequence], int64.
            attention_mask: 1 for a token, 0 for padding [batch, sequence], with those in a cache before them; see
                `AuraMoeConfig` for what becomes of padding.
            labels: Tokens to be predicted, not shifted, -100 for none [batch, sequence], int64.
            logits_to_keep: As in `Qwen3MoeForCausalLM`.
            kwargs: Likewise.

        Returns:
            See `AuraMoeOutput`. In evaluation `loss` is the cross-entropy alone.
        """
        outputs = self.model(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept])
        answer = AuraMoeOutput(
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            router_logits=outputs.router_logits,
        )
        if labels is not None:
            answer.cross_entropy = self.loss_function(logits, labels, self.vocab_size, **kwargs)
            answer.loss = answer.cross_entropy + self._router_losses(answer)
        for gate in self.gates():
            gate.routing = gate.routing.detach() if gate.routing is not None else None
        return answer

    def _router_losses(self, answer: AuraMoeOutput) -> torch.Tensor | float:
        """Fill in both losses of each sparse layer; their weighted sum in training, 0 in evaluation."""
        routings = self.routings()
        if not routings:
            return 0.0
        balance = torch.stack(
            [load_balancing_loss(each.probabilities, each.choices, each.present) for each in routings]
        )
        z_loss = torch.stack([router_z_loss(each.logits, each.present) for each in routings])
        answer.load_balancing_loss, answer.router_z_loss, answer.aux_loss = balance, z_loss, balance.sum()
        if not self.training:
            return 0.0
        weighted = self.config.router_z_loss_coef * z_loss.sum()
        if self.config.balancing == "loss":
            weighted = weighted + self.config.router_aux_loss_coef * balance.sum()
        return weighted

    def gates(self) -> Iterator[ExpertGate]:
        """The gates of the sparse layers, first layer first."""
        return (module for module in self.model.modules() if isinstance(module, ExpertGate))

    def routings(self) -> list[Routing]:
        """What each sparse layer decided in the last forward: loads before and after drops, see `Routing`."""
        return [gate.routing for gate in self.gates() if gate.routing is not None]

    def update_balance(self) -> None:
        """For balancing "bias", to be called after each optimizer step, in all processes; otherwise nothing happens."""
        for gate in self.gates():
            gate.update_bias(self.config.bias_rate)

    def set_capacity(self, capacity_factor: float | None, *, batch_priority: bool) -> None:
        """Change how places are given out from now on, see `ExpertGate`."""
        self.config.capacity_factor = capacity_factor
        self.config.batch_priority = batch_priority
        for module in self.modules():
            if isinstance(module, Qwen3MoeSparseMoeBlock) and capacity_factor is not None:
                _expect_drops(module)
        for gate in self.gates():
            gate.capacity_factor = capacity_factor
            gate.batch_priority = batch_priority


def _present(attention_mask: torch.Tensor | None, length: int) -> torch.Tensor | None:
    """Which of the tokens given now are not padding [batch * length], bool; None when all of them are not."""
    if attention_mask is None or attention_mask.dim() != 2:
        return None
    present = attention_mask[:, -length:].bool().flatten()
    return None if bool(present.all()) else present


def _expect_drops(block: Qwen3MoeSparseMoeBlock) -> None:
    """Let every experts function of transformers leave out the expert E, as under its expert parallelism."""
    experts: Any = block.experts
    experts._is_expert_parallel = True  # noqa: SLF001 - the switch that transformers has for it


AutoConfig.register(AuraMoeConfig.model_type, AuraMoeConfig)
AutoModelForCausalLM.register(AuraMoeConfig, AuraMoeForCausalLM)
