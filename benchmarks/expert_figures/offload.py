"""Inference with experts in the tiers: tokens a second by mode at 40 % of the experts' bytes in fast memory.

Each mode has a store of its own (hard links of one) that stays open, and answers the same requests: 64 tokens of text
that the model has not seen, and 24 more that follow it one by one, so that the routing is that of real text. The
domains of the text alternate by request. The modes take turns at each request; a ratio is of one request, the value
the median of all. Wall time counts, since loading beside the computation is the point; CPU time is beside it.

All modes answer the same requests before they are measured. The placement of the planned mode is the planner's, from
the access log of those. Then the logits of one request and some tokens that each mode generates freely after it are
compared, bit by bit, with those of the resident model; a difference ends the benchmark.

Two sets of tiers: L1 over L3 (RocksDB, its files in the page cache), and L1 over L2 (shared memory that holds the
rest). What the ratio to LRU consists of differs. LRU is the mode that computes from L1 alone: over L2 it copies DRAM to
DRAM at every miss, and the planned mode copies nothing, so the ratio there is the price of those copies, no merit of
prefetching or of placement. Over L3 both copy what they miss, and the ratio is of fewer misses and of loading beside
the computation. The ratios to `online`, which computes from wherever an expert is, are beside them without a goal.

The gap rows replay a recorded trace. The portfolio is the tiers' own policy, which no mode here follows by itself; what
the planned mode does is the row "planned mode's rule": `aura.experts.offload.waits`, without prefetch.
"""

from __future__ import annotations

import hashlib
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from report import Figure, figure, tell
from tier_policies import DATA, SHARES, closed
from transformers.modeling_outputs import MoeCausalLMOutputWithPast

from aura.experts.offload.figures import Mode, RunFigures
from aura.experts.offload.runtime import ExpertRuntime
from aura.experts.offload.store import ExpertStore
from aura.tiers.budgets import TierBudgets
from aura.tiers.planning.placement import plan_and_apply
from aura.tiers.planning.profile import measure_profile
from aura.tiers.records import Tier
from aura.tiers.replay.comparison import OPTIMUM, YARDSTICK, compare
from aura.tiers.replay.optimum import gap_closed
from aura.tiers.replay.readers import read_trace
from aura.tiers.store import TieredStore, open_store
from expert_figures.offload_model import Trained, trained_model
from expert_figures.offload_replay import replay_waits

MIB = 1 << 20
SHARE = 0.4
"""Of the experts' bytes that fast memory has room for."""
ROOM = 1.05
"""Of the bytes that have to fit into shared memory: an exchange needs some to spare."""
PROMPT, FOLLOWING, REQUESTS = 64, 24, 4
"""Tokens of a prompt, tokens that follow, requests of a round."""
BEFORE, SETTLING = 8, 4
"""Requests that each mode answers before the placement, and after it, before it is measured."""
FREELY = 8
"""Tokens that each mode generates by itself where the answers are compared."""
LRU_GOAL, RESIDENT_GOAL, GAP_GOAL = 1.5, 0.8, 0.25
END_OF_TEXT = 0
POLICIES = ("s3-fifo", "cycle-aware", "portfolio")


@dataclass(frozen=True)
class Side:
    """A mode on a set of tiers.

    Attributes:
        mode: The mode.
        slow: The tier below L1 that holds the rest.
        runtime: Open.
        store: Open.
    """

    mode: Mode
    slow: Tier
    runtime: ExpertRuntime
    store: TieredStore

    @property
    def name(self) -> str:
        """Both in words."""
        return self.mode.value if self.mode is Mode.RESIDENT else f"{self.mode.value}, L1 over {self.slow}"


@dataclass(frozen=True)
class Request:
    """Tokens of a prompt and those that follow it."""

    prompt: list[int]
    following: list[int]


def figures(data: Path | None, runs: int, home: Path | None = None) -> list[Figure]:
    """All figures: of inference, and of the policies on the recorded trace."""
    return [*inference_figures(runs, home), *gap_figures(data)]


def inference_figures(runs: int, home: Path | None = None) -> list[Figure]:
    """Tokens a second of every mode.

    Args:
        runs: Rounds.
        home: Where the trained model is kept; None: a temporary directory.
    """
    torch.set_num_threads(1)
    with ExitStack() as opened:
        place = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="aura-offload-")))
        trained = trained_model(home or place)
        sides = list(_sides(trained, place, opened))
        stream = _requests(trained, seed=0)
        before, settling = ([next(stream) for _ in range(count)] for count in (BEFORE, SETTLING))
        for side in sides:
            tell(f"{side.name}: {BEFORE} requests, {SETTLING} more and one that is compared")
            _answered(side, before)
            if side.mode is Mode.PLANNED:
                _plan(side)
            _answered(side, settling)
        _compare_answers(sides, next(stream))
        rounds = [_round(sides, [next(stream) for _ in range(REQUESTS)], number) for number in range(runs)]
    return _compared(rounds)


def gap_figures(data: Path | None) -> list[Figure]:
    """Share of the gap in misses from LRU to the optimum that policies close on a recorded trace of decoding.

    The trace is that of a Qwen MoE (BigMoeOnEdge); 5, 10 and 25 % of its experts are held.
    """
    found = []
    for path in sorted((data or DATA).rglob("qwen.route.csv")):
        trace = read_trace(path, layout="decoding").without_sizes()
        capacities = [max(1, int(share * trace.unique)) for share in SHARES]
        rows = compare(trace, capacities, POLICIES, tell=tell)
        for policy in POLICIES:
            shares = closed(rows, policy)
            goal = GAP_GOAL if policy == "portfolio" else None
            found.append(
                figure(
                    f"experts: gap closed on {trace.name} decoding, {policy}",
                    shares,
                    "share of the gap",
                    value=statistics.fmean(shares),
                    against="LRU 0, optimum 1",
                    goal=goal,
                    at_least=goal is not None,
                )
            )
        best, lru = ({row.capacity: row.outcome for row in rows if row.policy == name} for name in (OPTIMUM, YARDSTICK))
        shares = []
        for capacity in capacities:
            tell(f"{trace.name}: the planned mode's rule with {capacity}")
            own = replay_waits(trace, capacity).miss_ratio
            share = gap_closed(lru[capacity].miss_ratio, own, best[capacity].miss_ratio)
            shares += [] if share is None else [share]
        found.append(
            figure(
                f"experts: gap closed on {trace.name} decoding, planned mode's rule",
                shares,
                "share of the gap",
                value=statistics.fmean(shares),
                against="LRU 0, optimum 1",
            )
        )
    if not found:
        tell(f"experts: no qwen.route.csv in {data or DATA}")
    return found


def _sides(trained: Trained, place: Path, opened: ExitStack) -> Iterator[Side]:
    first = place / "store"
    with open_store(first, budgets=TierBudgets(process_bytes=MIB, arena_bytes=0)) as store:
        tell("putting the experts into a store")
        model = ExpertStore(store).put(trained.directory, "model")
        store.flush()
        wanted = [
            (Mode.RESIDENT, Tier.L3),
            *((mode, Tier.L3) for mode in (Mode.COLD, Mode.LRU, Mode.ONLINE, Mode.PLANNED)),
            *((mode, Tier.L2) for mode in (Mode.LRU, Mode.ONLINE, Mode.PLANNED)),
        ]
        for mode, slow in wanted:
            store.checkpoint(place / f"{mode.value}-{slow}")
    fast = int(SHARE * model.bytes)
    for mode, slow in wanted:
        budgets = TierBudgets(
            process_bytes=fast,
            arena_bytes=int(ROOM * (model.bytes - fast)) if slow is Tier.L2 else 0,
            background_bytes_per_second=0,
            online=mode is Mode.ONLINE,
        )
        own = opened.enter_context(open_store(place / f"{mode.value}-{slow}", budgets=budgets))
        if slow is Tier.L2:
            # The first experts in L1, the rest below: where every mode begins.
            held = int(fast // (model.bytes / len(model.keys)))
            own.move(dict.fromkeys(model.keys[held:], Tier.L2) | dict.fromkeys(model.keys[:held], Tier.L1))
        yield Side(mode, slow, opened.enter_context(ExpertRuntime(own, "model", mode=mode)), own)


def _requests(trained: Trained, seed: int) -> Iterator[Request]:
    """Pieces of unseen text, the domains by turns."""
    random = np.random.default_rng(seed)
    texts = [tokens for _, tokens in sorted(trained.held_out.items())]
    number = 0
    while True:
        tokens = texts[number % len(texts)]
        start = int(random.integers(len(tokens) - PROMPT - FOLLOWING))
        piece = tokens[start : start + PROMPT + FOLLOWING].tolist()
        if END_OF_TEXT in piece:  # generation would end there
            continue
        yield Request(piece[:PROMPT], piece[PROMPT:])
        number += 1


def _answered(side: Side, requests: Sequence[Request]) -> list[RunFigures]:
    return [
        side.runtime.generate(request.prompt, max_new_tokens=FOLLOWING, follow=request.following).figures
        for request in requests
    ]


def _plan(side: Side) -> None:
    """Place the experts of the planned mode by what was read so far."""
    tell(f"{side.name}: placing by the access log")
    # Measured before anything is moved, on a store that is as empty as a measurement needs.
    held = {entry.key: entry.tier for entry in side.store.entries("experts/") if entry.tier is not Tier.L3}
    side.store.move(dict.fromkeys(held, Tier.L3))
    profile = measure_profile(side.store, sizes=(MIB // 2, MIB, 2 * MIB), repeats=5)
    side.store.move(held)
    plan_and_apply(side.store, profile, replayed=256)


def _compare_answers(sides: Sequence[Side], request: Request) -> None:
    """Hold every mode to the answer of the resident model.

    Raises:
        ValueError: A mode has other logits, or generates other tokens.
    """
    answers = {side.name: _digest(side, request) for side in sides}
    expected = answers[Mode.RESIDENT.value]
    for name, answer in answers.items():
        if answer != expected:
            raise ValueError(f"{name} answers otherwise than the resident model: logits, tokens {answer}, {expected}")
    tell(f"all {len(sides)} answer alike: logits {expected[0][:16]}")


def _digest(side: Side, request: Request) -> tuple[str, list[int]]:
    """SHA-256 of all logits of a request, and the tokens that were generated."""
    found = hashlib.sha256()

    def note(_module: object, _given: object, output: MoeCausalLMOutputWithPast) -> None:
        logits = cast("torch.Tensor", output.logits)
        found.update(logits.contiguous().numpy().tobytes())

    hook = side.runtime.network.register_forward_hook(note)
    try:
        answer = side.runtime.generate(
            request.prompt,
            max_new_tokens=FOLLOWING + FREELY,
            min_new_tokens=FOLLOWING + FREELY,
            follow=request.following,
        )
    finally:
        hook.remove()
    return found.hexdigest(), answer.tokens.tolist()


def _round(sides: Sequence[Side], requests: Sequence[Request], number: int) -> dict[str, list[RunFigures]]:
    tell(f"round {number + 1}")
    found: dict[str, list[RunFigures]] = {side.name: [] for side in sides}
    for place, request in enumerate(requests):
        turn = (number * len(requests) + place) % len(sides)
        for side in (*sides[turn:], *sides[:turn]):
            found[side.name] += _answered(side, [request])
    return found


def _compared(rounds: Sequence[dict[str, list[RunFigures]]]) -> list[Figure]:
    names = list(rounds[0])
    planned, lru, online = (
        {slow: f"{mode}, L1 over {slow}" for slow in (Tier.L3, Tier.L2)}
        for mode in (Mode.PLANNED, Mode.LRU, Mode.ONLINE)
    )

    def rate(answers: Sequence[RunFigures]) -> float:
        return sum(each.new_tokens for each in answers) / sum(each.seconds for each in answers)

    def decoding(answers: Sequence[RunFigures]) -> float:
        return sum(each.new_tokens - 1 for each in answers) / sum(
            each.seconds - each.prefill_seconds for each in answers
        )

    def cpu(answers: Sequence[RunFigures]) -> float:
        return sum(each.cpu_seconds for each in answers) / sum(each.new_tokens for each in answers)

    def over(measure: Callable[[Sequence[RunFigures]], float], mine: str, theirs: str) -> list[float]:
        pairs = ((a, b) for found in rounds for a, b in zip(found[mine], found[theirs], strict=True))
        return [measure([a]) / measure([b]) for a, b in pairs]

    share = f"{SHARE:.0%} of the experts in L1"
    rows = []
    for slow in (Tier.L2, Tier.L3):
        against = f"LRU, same budget and tiers (L1 over {slow})"
        rows += [
            figure(
                f"experts: tokens a second, planned, {share}, slow tier {slow}",
                over(rate, planned[slow], lru[slow]),
                "ratio",
                against=against,
                goal=LRU_GOAL,
                at_least=True,
            ),
            figure(
                f"experts: the same, decoding alone, slow tier {slow}",
                over(decoding, planned[slow], lru[slow]),
                "ratio",
                against=against,
            ),
            figure(
                f"experts: the same, CPU seconds a token, slow tier {slow}",
                over(cpu, planned[slow], lru[slow]),
                "ratio",
                against=against,
            ),
            *(
                figure(
                    f"experts: tokens a second, {name}, {share}, slow tier {slow}, of online",
                    over(rate, sides[slow], online[slow]),
                    "ratio",
                    against=f"used where it is, placed by the store's own layer (L1 over {slow})",
                )
                for name, sides in (("planned", planned), ("lru", lru))
            ),
        ]
    for slow, goal in ((Tier.L2, RESIDENT_GOAL), (Tier.L3, None)):
        rows.append(
            figure(
                f"experts: tokens a second, planned, slow tier {slow}, of resident",
                over(rate, planned[slow], "resident"),
                "ratio",
                against="fully resident",
                goal=goal,
                at_least=goal is not None,
            )
        )
    for name in names:
        answers = [found[name] for found in rounds]
        every = [each for found in answers for each in found]
        rows.append(figure(f"experts: {name}", [rate(found) for found in answers], "tokens/s"))
        rows.append(figure(f"experts: {name}, CPU", [cpu(found) for found in answers], "CPU s a token"))
        if every[0].hit_ratio is not None:
            uses = sum(each.hits + each.misses for each in every)
            in_fast = sum(each.reads.get(Tier.L1, 0) for each in every)
            waited = [
                sum(each.waited_seconds for each in found) / sum(each.seconds for each in found) for found in answers
            ]
            rows.append(figure(f"experts: {name}, used from L1", [in_fast / uses], "share of uses"))
            rows.append(figure(f"experts: {name}, waited for experts", waited, "share of the time"))
            size = sum(each.bytes_read for each in every) / sum(each.new_tokens for each in every) / MIB
            rows.append(figure(f"experts: {name}, read", [size], "MiB a token"))
        if name in planned.values():
            useful, useless = sum(each.useful for each in every), sum(each.useless for each in every)
            rows.append(
                figure(f"experts: {name}, fetched ahead and used", [useful / max(1, useful + useless)], "share")
            )
    return rows
