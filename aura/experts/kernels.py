"""Experts over a sorted batch: the experts function "aura" of `transformers`' experts interface.

Importing this module registers it, and `model.set_experts_implementation("aura")` chooses it. Belongs here: running
experts on tokens that a gate has sent. Does not: gates (`gating`).

T tokens, k choices each, E experts, d model width, I intermediate width. Every choice has a row; rows lie sorted by
expert, so that each expert is a few products of matrices over its own rows. Nothing loops over tokens. On other devices
than the CPU, `transformers`' own `grouped_mm` does the same with one kernel per product.
"""

from __future__ import annotations

from collections.abc import Iterator
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

GROUP_BYTES = 1 << 19
"""In the same types experts are computed together, because each call of oneDNN costs, while what lies between their
products stays below this, half of a usual L2 cache. In float32 one after the other is as quick."""

WASTE = 0.125
"""Rows that may be filled up for computing experts together, over those that are used."""


@dataclass(frozen=True)
class Group:
    """Neighbouring experts with about as many tokens each, which are computed together.

    Attributes:
        first: The first expert.
        end: The expert after the last one.
        size: Rows of each of them.
    """

    first: int
    end: int
    size: int

    @property
    def experts(self) -> int:
        """How many they are."""
        return self.end - self.first

    @property
    def rows(self) -> int:
        """The rows of all of them."""
        return self.experts * self.size


@dataclass(frozen=True)
class Rows:
    """Where the choices of a batch lie, sorted by expert.

    Attributes:
        groups: Ascending; experts without tokens are in none, or in one with others.
        tokens: The token of each row [total], int64; any token for a row that stands for no choice.
        position: The row of each choice [T, k], int64; `total` for a choice without a place.
    """

    groups: tuple[Group, ...]
    tokens: torch.Tensor
    position: torch.Tensor

    @property
    def total(self) -> int:
        """All rows."""
        return sum(group.rows for group in self.groups)

    @property
    def largest(self) -> int:
        """The most rows of one group."""
        return max((group.rows for group in self.groups), default=0)

    def lines(self, like: torch.Tensor, wide: int) -> torch.Tensor:
        """Memory for [total + 1, wide]; the last row, of choices without a place, is zero."""
        memory = like.new_empty(self.total + 1, wide)
        memory[self.total].zero_()
        return memory

    def split(self, lines: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """[rows, ...] of each group, of [total or total + 1, ...]."""
        over = lines.shape[0] - self.total
        return torch.split_with_sizes(lines, [group.rows for group in self.groups] + [over])[:-1]

    def parts(self, lines: torch.Tensor) -> list[torch.Tensor]:
        """[experts, size, wide] of each group, of [total or total + 1, wide]."""
        pairs = zip(self.groups, self.split(lines), strict=True)
        return [part.view(group.experts, group.size, -1) for group, part in pairs]

    def columns(self, memory: torch.Tensor, tall: int) -> list[torch.Tensor]:
        """[experts, tall, size] of each group: one after the other, or all in one place where memory is for one."""
        sizes = [tall * group.rows for group in self.groups]
        apart = memory.shape[0] == sum(sizes)
        parts = torch.split_with_sizes(memory, sizes) if apart else [memory[:size] for size in sizes]
        return [part.view(group.experts, tall, -1) for group, part in zip(self.groups, parts, strict=True)]

    def expert_of_each(self) -> torch.Tensor:
        """The expert of each row [total], int64."""
        numbers = [np.repeat(np.arange(group.first, group.end), group.size) for group in self.groups]
        return torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *numbers]))

    def idle(self, experts: int) -> list[slice]:
        """Where the experts lie, of all, that are in no group."""
        edges = [0, *(edge for group in self.groups for edge in (group.first, group.end)), experts]
        return [slice(*each) for each in zip(edges[::2], edges[1::2], strict=True)]

    @classmethod
    def of(cls, index: torch.Tensor, experts: int, *, multiple: int, together: int) -> Rows:
        """Sort the experts [T, k] of a batch on the CPU; those from `experts` on mean no place.

        Args:
            index: Experts, int64.
            experts: How many there are.
            multiple: The rows of an expert are filled up to a multiple of this.
            together: The most rows of a group of more than one expert.
        """
        ranks = index.shape[1]
        chosen = np.minimum(index.numpy().reshape(-1), experts)
        # numpy sorts 16-bit integers by radix.
        order = np.argsort(chosen.astype(np.uint16) if experts < 2**16 else chosen, kind="stable")
        load = np.bincount(chosen, minlength=experts)[:experts]
        groups = tuple(_groups(load.tolist(), multiple, together))
        begins = np.zeros(experts, np.int64)
        total = 0
        for group in groups:
            begins[group.first : group.end] = total + group.size * np.arange(group.experts)
            total += group.rows
        kept = order[: load.sum()]
        rows = np.arange(len(kept)) + np.repeat(begins - (load.cumsum() - load), load)
        position = np.full(len(chosen), total)
        position[kept] = rows
        tokens = np.zeros(total, np.int64)
        tokens[rows] = kept // ranks
        return cls(groups, torch.from_numpy(tokens), torch.from_numpy(position).view(-1, ranks))


def _groups(load: list[int], multiple: int, together: int) -> Iterator[Group]:
    """Take each expert that has tokens together with those before it while few rows are wasted by that."""
    first, end, size, used = 0, 0, 0, 0
    for expert, count in enumerate(load):
        if count == 0:
            continue
        rows = -(-count // multiple) * multiple
        wider, taller = expert + 1 - first, max(size, rows)
        if end and wider * taller <= min(together, (used + rows) * (1 + WASTE)):
            end, size, used = expert + 1, taller, used + rows
            continue
        if end:
            yield Group(first, end, size)
        first, end, size, used = expert, expert + 1, rows, rows
    if end:
        yield Group(first, end, size)


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
    if self.is_transposed:
        up, down = up.mT, down.mT
    rows = _rows(top_k_index, self.num_experts, up)
    tokens, weights = hidden_states.to(up.dtype), top_k_weights.to(up.dtype)
    with torch.autocast("cpu", enabled=False):
        if _is_swiglu(self):
            output: torch.Tensor = _SwiGLUExperts.apply(tokens, weights, up, down, rows, torch.is_grad_enabled())
        else:
            output = _any_experts(self, tokens, weights, (up, down), rows)
    return output.to(hidden_states.dtype)


def _rows(index: torch.Tensor, experts: int, up: torch.Tensor) -> Rows:
    if up.dtype not in (torch.bfloat16, torch.float16):
        return Rows.of(index, experts, multiple=1, together=0)
    together = GROUP_BYTES // (up.shape[1] * up.element_size())
    return Rows.of(index, experts, multiple=ROW_MULTIPLE, together=together)


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
        for group, own, p, s, h, y in zip(
            rows.groups,
            rows.split(rows.tokens),
            rows.columns(projected, 2 * inner),
            rows.columns(activated, inner),
            rows.columns(hidden, inner),
            rows.parts(outputs),
            strict=True,
        ):
            x = torch.index_select(tokens, 0, own, out=gathered[: group.rows]).view_as(y)
            _product(up[group.first : group.end], x.mT, out=p)
            gate_projected, up_projected = p.chunk(2, dim=1)
            silu(gate_projected, out=s)
            torch.mul(s, up_projected, out=h)
            _product(h.mT, down[group.first : group.end].mT, out=y)
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
        x_grads, gate_grads = rows.lines(tokens, width), rows.lines(weights, 1)
        # The gate of a row that stands for no choice is zero, and so are all gradients from there.
        gates = weights.new_zeros(rows.total + 1, 1).index_copy_(0, rows.position.flatten(), weights.reshape(-1, 1))
        up_grad, down_grad = torch.empty_like(up), torch.empty_like(down)
        for group, own, gate, gate_grad, p, s, h, y, h_grad, p_grad, x_grad in zip(
            rows.groups,
            rows.split(rows.tokens),
            rows.parts(gates),
            rows.parts(gate_grads),
            rows.columns(projected, 2 * inner),
            rows.columns(activated, inner),
            rows.columns(hidden, inner),
            rows.parts(outputs),
            rows.columns(h_grads, inner),
            rows.columns(p_grads, 2 * inner),
            rows.parts(x_grads),
            strict=True,
        ):
            these = slice(group.first, group.end)
            y_grad = torch.index_select(grad, 0, own, out=y_grads[: group.rows]).view_as(y)
            product = torch.mul(y_grad, y, out=products[: group.rows].view_as(y))
            torch.sum(product, dim=2, keepdim=True, out=gate_grad)
            y_grad.mul_(gate)
            _product(down[these].mT, y_grad.mT, out=h_grad)
            _product(y_grad.mT, h.mT, out=down_grad[these])
            gate_projected, up_projected = p.chunk(2, dim=1)
            gate_projected_grad, up_projected_grad = p_grad.chunk(2, dim=1)
            torch.mul(h_grad, s, out=up_projected_grad)
            silu_backward(h_grad.mul_(up_projected), gate_projected, grad_input=gate_projected_grad)
            _product(p_grad.mT, up[these], out=x_grad)
            x = torch.index_select(tokens, 0, own, out=gathered[: group.rows]).view_as(y)
            _product(p_grad, x, out=up_grad[these])
        for unused in rows.idle(len(up)):
            up_grad[unused].zero_()
            down_grad[unused].zero_()
        token_grads = nn.functional.embedding_bag(rows.position, x_grads, mode="sum")
        weight_grads = gate_grads.index_select(0, rows.position.flatten()).view_as(weights)
        return token_grads, weight_grads, up_grad, down_grad, None, None


def _product(left: torch.Tensor, right: torch.Tensor, *, out: torch.Tensor) -> None:
    """The products of the experts of a group; those of one are quicker without the batch."""
    if out.shape[0] == 1:
        torch.mm(left[0], right[0], out=out[0])
    else:
        torch.bmm(left, right, out=out)


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
    hidden = _GroupedLinear.apply(tokens.index_select(0, rows.tokens), up, rows)
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
        for group, x, y in zip(rows.groups, rows.parts(lines), rows.parts(product), strict=True):
            _product(x, weight[group.first : group.end].mT, out=y)
        return product

    @staticmethod
    @once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Context, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:  # type: ignore[override]
        lines, weight = ctx.saved_tensors
        rows: Rows = ctx.rows
        line_grad, weight_grad = torch.empty_like(lines), torch.empty_like(weight)
        for group, x, x_grad, y_grad in zip(
            rows.groups, rows.parts(lines), rows.parts(line_grad), rows.parts(grad), strict=True
        ):
            these = slice(group.first, group.end)
            _product(y_grad, weight[these], out=x_grad)
            _product(y_grad.mT, x, out=weight_grad[these])
        for unused in rows.idle(len(weight)):
            weight_grad[unused].zero_()
        return line_grad, weight_grad, None


ALL_EXPERTS_FUNCTIONS.register(NAME, aura_experts_forward)
