"""Experts over a sorted batch: the experts function "aura" of `transformers`' experts interface.

Importing this module registers it, and `model.set_experts_implementation("aura")` chooses it. Belongs here: running
experts on tokens that a gate has sent. Does not: gates (`gating`).

T tokens, k choices each, E experts, d model width, I intermediate width. Every choice has a row; rows lie sorted by
expert, so that each expert is a few products of matrices over its own rows. Nothing loops over tokens. On other devices
than the CPU, `transformers`' own `grouped_mm` does the same with one kernel per product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch  # noqa: TID253 - products of tensors; nothing light imports this module
from torch import nn  # noqa: TID253
from torch.autograd.function import once_differentiable  # noqa: TID253
from transformers.activations import SiLUActivation  # noqa: TID253
from transformers.integrations.moe import (  # noqa: TID253
    ALL_EXPERTS_FUNCTIONS,
    _default_apply_gate,
    grouped_mm_experts_forward,
)

Experts = Any
"""A module that `use_experts_implementation` made: it sets the attributes that are read here."""

Context = Any
"""What autograd gives to a function's forward and backward."""

NAME = "aura"
silu, silu_backward = torch.ops.aten.silu.out, torch.ops.aten.silu_backward.grad_input
ROW_MULTIPLE = 16
"""Rows of an expert are filled up to a multiple of this in bfloat16 and float16: oneDNN builds a kernel for each number
of rows that it has not seen, which takes longer than the product."""


@dataclass(frozen=True)
class Rows:
    """Where the choices of a batch lie, sorted by expert.

    Attributes:
        experts: The experts that got tokens, ascending.
        tokens: The tokens of each of them [count], int64, ascending.
        sizes: Rows of each of them, at least the count; what is over holds zeros.
        position: The row of each choice [T, k], int64; `total` for a choice without a place.
    """

    experts: tuple[int, ...]
    tokens: tuple[torch.Tensor, ...]
    sizes: tuple[int, ...]
    position: torch.Tensor

    @property
    def total(self) -> int:
        """All rows."""
        return sum(self.sizes)

    @property
    def largest(self) -> int:
        """The most rows of one expert."""
        return max(self.sizes, default=0)

    def lines(self, like: torch.Tensor, wide: int) -> torch.Tensor:
        """Memory for [total + 1, wide]; the last row, of choices without a place, is zero."""
        memory = like.new_empty(self.total + 1, wide)
        memory[self.total].zero_()
        return memory

    def parts(self, lines: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """[rows, wide] of each expert, of what `lines` made."""
        return torch.split_with_sizes(lines, (*self.sizes, 1))[:-1]

    def columns(self, memory: torch.Tensor, *shape: int) -> list[torch.Tensor]:
        """[*shape, rows] of each expert: one after the other, or all in one place where memory is for the largest."""
        tall = math.prod(shape)
        if memory.shape[0] == tall * self.total:
            return [
                part.view(*shape, -1) for part in torch.split_with_sizes(memory, [tall * size for size in self.sizes])
            ]
        return [memory[: tall * size].view(*shape, size) for size in self.sizes]

    def source(self, padding: int) -> torch.Tensor:
        """The token of each row [total], int64; `padding` for a row that is over."""
        tokens = torch.full((self.total,), padding)
        for own, part in zip(self.tokens, torch.split_with_sizes(tokens, self.sizes), strict=True):
            part[: len(own)] = own
        return tokens

    def expert_of_each(self) -> torch.Tensor:
        """The expert of each row [total], int64."""
        return torch.from_numpy(np.repeat(np.array(self.experts, dtype=np.int64), self.sizes))

    def idle(self, experts: int) -> set[int]:
        """Those of all experts that got no token."""
        return set(range(experts)).difference(self.experts)

    @classmethod
    def of(cls, index: torch.Tensor, experts: int, multiple: int) -> Rows:
        """Sort the experts [T, k] of a batch on the CPU; those from `experts` on mean no place."""
        ranks = index.shape[1]
        chosen = index.numpy().reshape(-1)
        # numpy sorts 16-bit integers by radix.
        order = np.argsort(chosen.astype(np.uint16) if experts < 2**16 else chosen, kind="stable")
        load = np.bincount(chosen, minlength=experts)[:experts]
        hit = np.flatnonzero(load)
        counts = load[hit]
        sizes = -(-counts // multiple) * multiple
        kept = order[: counts.sum()]
        shift = np.repeat(sizes.cumsum() - sizes - (counts.cumsum() - counts), counts)
        position = np.full(len(chosen), sizes.sum(), dtype=np.int64)
        position[kept] = np.arange(len(kept)) + shift
        return cls(
            tuple(hit.tolist()),
            torch.split_with_sizes(torch.from_numpy(kept // ranks), counts.tolist()),
            tuple(sizes.tolist()),
            torch.from_numpy(position).view(-1, ranks),
        )


def aura_experts_forward(
    self: Experts, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """Send tokens through experts of any layout of `use_experts_implementation`.

    Args:
        self: The experts, with stacked weights.
        hidden_states: [T, d].
        top_k_index: Experts [T, k], int64; numbers from E on mean no place.
        top_k_weights: [T, k], floating.

    Returns:
        The weighted sum of each token's experts [T, d] in the dtype of the tokens. Every sum is taken in the same order
        each time.
    """
    if hidden_states.device.type != "cpu":
        return grouped_mm_experts_forward(self, hidden_states, top_k_index, top_k_weights)
    up = self.gate_up_proj if self.has_gate else self.up_proj
    down = self.down_proj
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        up, down = up.to(dtype), down.to(dtype)
    multiple = ROW_MULTIPLE if up.dtype in (torch.bfloat16, torch.float16) else 1
    rows = Rows.of(top_k_index, self.num_experts, multiple)
    tokens, weights = hidden_states.to(up.dtype), top_k_weights.to(up.dtype)
    if self.is_transposed:
        up, down = up.mT, down.mT
    with torch.autocast("cpu", enabled=False):
        if _is_swiglu(self):
            output: torch.Tensor = _SwiGLUExperts.apply(tokens, weights, up, down, rows, torch.is_grad_enabled())
        else:
            output = _any_experts(self, tokens, weights, (up, down), rows)
    return output.to(hidden_states.dtype)


def _is_swiglu(experts: Experts) -> bool:
    if not experts.has_gate or experts.has_bias or experts.has_post_expert_norm:
        return False
    gating = type(experts)._apply_gate  # noqa: SLF001 - what the interface gives
    return gating is _default_apply_gate and isinstance(experts.act_fn, nn.SiLU | SiLUActivation)


class _SwiGLUExperts(torch.autograd.Function):
    """silu(x W_gate^T) * (x W_up^T) W_down^T of every expert over its rows, weighted and summed per token.

    One expert after the other, forward and backward, so that what it touches stays in the cache; every product writes
    to its place. Between the products a row is a column, so that gate and up lie each in one piece.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def forward(  # noqa: PLR0917 - autograd passes arguments by position
        ctx: Context,
        tokens: torch.Tensor,
        weights: torch.Tensor,
        up: torch.Tensor,
        down: torch.Tensor,
        rows: Rows,
        training: bool,  # noqa: FBT001
    ) -> torch.Tensor:
        width, inner = down.shape[1:]
        outputs = rows.lines(tokens, width)
        columns = rows.total if training else rows.largest
        projected, activated, hidden = (tokens.new_empty(tall * columns) for tall in (2 * inner, inner, inner))
        gathered = tokens.new_empty(rows.largest, width)
        for expert, own, size, p, s, h, y in zip(
            rows.experts,
            rows.tokens,
            rows.sizes,
            rows.columns(projected, 2, inner),
            rows.columns(activated, inner),
            rows.columns(hidden, inner),
            rows.parts(outputs),
            strict=True,
        ):
            x = _gather(tokens, own, gathered[:size])
            gate_projected, up_projected = p
            torch.mm(up[expert], x.t(), out=p.view(2 * inner, size))
            silu(gate_projected, out=s)
            torch.mul(s, up_projected, out=h)
            torch.mm(h.t(), down[expert].t(), out=y)
        if training:
            ctx.save_for_backward(tokens, weights, up, down, projected, activated, hidden, outputs)
            ctx.rows = rows
        return nn.functional.embedding_bag(rows.position, outputs, mode="sum", per_sample_weights=weights)

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Context, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        tokens, weights, up, down, projected, activated, hidden, outputs = ctx.saved_tensors
        rows: Rows = ctx.rows
        width, inner = down.shape[1:]
        gathered, y_grads, products = (tokens.new_empty(rows.largest, width) for _ in range(3))
        h_grads, p_grads = (tokens.new_empty(tall * rows.largest) for tall in (inner, 2 * inner))
        x_grads = rows.lines(tokens, width)
        up_grad, down_grad = torch.empty_like(up), torch.empty_like(down)
        gates, gate_grads = rows.lines(weights, 1), rows.lines(weights, 1)
        gates.index_copy_(0, rows.position.flatten(), weights.reshape(-1, 1))
        for expert, own, size, gate, gate_grad, p, s, h, y, h_grad, p_grad, x_grad in zip(
            rows.experts,
            rows.tokens,
            rows.sizes,
            rows.parts(gates),
            rows.parts(gate_grads),
            rows.columns(projected, 2, inner),
            rows.columns(activated, inner),
            rows.columns(hidden, inner),
            rows.parts(outputs),
            rows.columns(h_grads, inner),
            rows.columns(p_grads, 2, inner),
            rows.parts(x_grads),
            strict=True,
        ):
            y_grad = _gather(grad, own, y_grads[:size])
            torch.sum(torch.mul(y_grad, y, out=products[:size]), dim=1, keepdim=True, out=gate_grad)
            y_grad.mul_(gate)
            torch.mm(down[expert].t(), y_grad.t(), out=h_grad)
            torch.mm(y_grad.t(), h.t(), out=down_grad[expert])
            gate_projected, up_projected = p
            gate_projected_grad, up_projected_grad = p_grad
            torch.mul(h_grad, s, out=up_projected_grad)
            silu_backward(h_grad.mul_(up_projected), gate_projected, grad_input=gate_projected_grad)
            stacked = p_grad.view(2 * inner, size)
            torch.mm(stacked.t(), up[expert], out=x_grad)
            torch.mm(stacked, _gather(tokens, own, gathered[:size]), out=up_grad[expert])
        for expert in rows.idle(len(up)):
            up_grad[expert].zero_()
            down_grad[expert].zero_()
        token_grads = nn.functional.embedding_bag(rows.position, x_grads, mode="sum")
        weight_grads = gate_grads.index_select(0, rows.position.flatten()).view_as(weights)
        return token_grads, weight_grads, up_grad, down_grad, None, None


def _any_experts(
    experts: Experts,
    tokens: torch.Tensor,
    weights: torch.Tensor,
    matrices: tuple[torch.Tensor, torch.Tensor],
    rows: Rows,
) -> torch.Tensor:
    """The same for experts with biases, a gating or an activation of their own, or a norm after them."""
    up, down = matrices
    zero = tokens.new_zeros(1, tokens.shape[1])
    hidden = _GroupedLinear.apply(torch.cat([tokens, zero]).index_select(0, rows.source(len(tokens))), up, rows)
    if experts.has_bias:
        up_bias = experts.gate_up_proj_bias if experts.has_gate else experts.up_proj_bias
        hidden = hidden + up_bias.to(hidden.dtype).index_select(0, rows.expert_of_each())
    activate = experts._apply_gate if experts.has_gate else experts.act_fn  # noqa: SLF001 - what the interface gives
    outputs = _GroupedLinear.apply(activate(hidden), down, rows)
    if experts.has_bias:
        outputs = outputs + experts.down_proj_bias.to(outputs.dtype).index_select(0, rows.expert_of_each())
    if experts.has_post_expert_norm:
        outputs = experts.post_expert_norm(outputs)
    placed = torch.cat([outputs, zero.to(outputs.dtype)]).index_select(0, rows.position.flatten())
    return (placed.view(*rows.position.shape, -1) * weights.unsqueeze(-1)).sum(dim=1)


class _GroupedLinear(torch.autograd.Function):
    """x W^T of every expert over its rows."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def forward(ctx: Context, lines: torch.Tensor, weight: torch.Tensor, rows: Rows) -> torch.Tensor:
        ctx.save_for_backward(lines, weight)
        ctx.rows = rows
        product = lines.new_empty(rows.total, weight.shape[1])
        for expert, x, y in zip(
            rows.experts,
            torch.split_with_sizes(lines, rows.sizes),
            torch.split_with_sizes(product, rows.sizes),
            strict=True,
        ):
            torch.mm(x, weight[expert].t(), out=y)
        return product

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Context, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:  # type: ignore[override]
        lines, weight = ctx.saved_tensors
        rows: Rows = ctx.rows
        line_grad, weight_grad = torch.empty_like(lines), torch.empty_like(weight)
        for expert, x, x_grad, y_grad in zip(
            rows.experts,
            torch.split_with_sizes(lines, rows.sizes),
            torch.split_with_sizes(line_grad, rows.sizes),
            torch.split_with_sizes(grad, rows.sizes),
            strict=True,
        ):
            torch.mm(y_grad, weight[expert], out=x_grad)
            torch.mm(y_grad.t(), x, out=weight_grad[expert])
        for expert in rows.idle(len(weight)):
            weight_grad[expert].zero_()
        return line_grad, weight_grad, None


def _gather(source: torch.Tensor, tokens: torch.Tensor, into: torch.Tensor) -> torch.Tensor:
    """The rows of some tokens, then zeros to the end of `into`."""
    count, size = tokens.shape[0], into.shape[0]
    if count == size:
        return torch.index_select(source, 0, tokens, out=into)
    torch.index_select(source, 0, tokens, out=into[:count])
    into[count:].zero_()
    return into


ALL_EXPERTS_FUNCTIONS.register(NAME, aura_experts_forward)
