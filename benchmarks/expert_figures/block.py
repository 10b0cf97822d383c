"""The block with experts, router and all, beside a dense block of the same active operations: forward and backward.

2048 tokens that are other ones in each step, as in a training, so that the number of tokens of each expert changes. The
sides take turns within a run; time is CPU time of one thread; a figure is the median of the ratios of all turns.
Memory that is given back stays with the process, so that what is measured are not the kernel's page faults.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from report import Figure, figure, tell
from torch import nn
from transformers import Qwen3MoeConfig
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeMLP, Qwen3MoeSparseMoeBlock

from aura.experts.gating import ExpertGate
from aura.experts.kernels import NAME

TOKENS, WARM_UP, TURNS = 2048, 16, 21
SHAPES: Mapping[str, tuple[int, int, int, int]] = {
    "d128 I512 E8 top-1": (128, 512, 8, 1),
    "d256 I128 E32 top-4": (256, 128, 32, 4),
}
GOALS = {torch.float32: (1.15, 1.5), torch.bfloat16: (1.4, 2.0)}
THEIRS = "grouped_mm"

Step = Callable[[torch.Tensor], None]


def figures(data: Path | None, runs: int) -> list[Figure]:
    """Ratios of both experts functions to the dense block."""
    del data
    _keep_memory()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [
            each
            for dtype, goals in GOALS.items()
            for (name, shape), goal in zip(SHAPES.items(), goals, strict=True)
            for each in _compared(f"MoE block forward+backward, {str(dtype)[6:]} {name}", shape, dtype, goal, runs)
        ]
    finally:
        torch.set_num_threads(threads)


def _compared(name: str, shape: tuple[int, int, int, int], dtype: torch.dtype, goal: float, runs: int) -> list[Figure]:
    tell(name)
    ratios: dict[str, list[float]] = {NAME: [], THEIRS: []}
    for run in range(runs):
        seconds = _in_turns(_sides(shape, dtype, seed=run), lambda: torch.randn(1, TOKENS, shape[0]).to(dtype))
        for side, found in ratios.items():
            turns = [own / dense for own, dense in zip(seconds[side], seconds["dense"], strict=True)]
            found.append(sorted(turns)[len(turns) // 2])
    against = "dense block of equal active operations"
    return [
        figure(name, ratios[NAME], "ratio", against=against, goal=goal),
        figure(f"{name}, {THEIRS}", ratios[THEIRS], "ratio", against=against),
    ]


def _sides(shape: tuple[int, int, int, int], dtype: torch.dtype, seed: int) -> dict[str, Step]:
    """A step of each side; they share the weights of the experts."""
    width, inner, experts, choices = shape
    torch.manual_seed(seed)
    config = Qwen3MoeConfig(
        hidden_size=width, moe_intermediate_size=inner, num_experts=experts, num_experts_per_tok=choices
    )
    block = Qwen3MoeSparseMoeBlock(config)
    gate = ExpertGate(width, experts, choices, normalise=choices > 1)
    block.gate = gate
    dense = Qwen3MoeMLP(config, intermediate_size=choices * inner)
    for module in (block, dense):
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.02)
        module.to(dtype).train()

    def side(name: str) -> Step:
        def step(tokens: torch.Tensor) -> None:
            config._experts_implementation = name  # noqa: SLF001 - what `set_experts_implementation` sets
            _step(dense if name == "dense" else block, tokens.detach().requires_grad_())

        return step

    return {name: side(name) for name in ("dense", NAME, THEIRS)}


def _step(module: nn.Module, tokens: torch.Tensor) -> None:
    output = module(tokens)
    output.backward(torch.ones_like(output))
    for parameter in module.parameters():
        parameter.grad = None


def _in_turns(sides: Mapping[str, Step], draw: Callable[[], torch.Tensor]) -> dict[str, list[float]]:
    """CPU seconds of each turn, of new tokens that all sides get; the order is reversed from turn to turn."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(WARM_UP + TURNS):
        tokens = draw()
        for name in list(sides) if turn % 2 == 0 else list(sides)[::-1]:
            began = time.process_time()
            sides[name](tokens)
            seconds[name].append(time.process_time() - began)
    return {name: each[WARM_UP:] for name, each in seconds.items()}


def _keep_memory() -> None:
    """Let glibc hold on to what is freed, up to its limit of 32 MiB for one piece."""
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        trim_threshold, mmap_threshold = -1, -3
        library.mallopt(mmap_threshold, 32 << 20)
        library.mallopt(trim_threshold, 1 << 30)
