"""Where every published object lives: planned, applied, and measured by a replay of the access log.

Belongs here: `TierPlacement`, applying a plan, measuring the mean get latency before and after.
Does not: the plan itself (`plan.py`), measuring tiers (`profile.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock

from aura.tiers.errors import ObjectNotFoundError
from aura.tiers.knapsack import relative_gap
from aura.tiers.latency import LatencySummary, summarize_latencies
from aura.tiers.places import VALUES
from aura.tiers.plan import Plan, plan_placement
from aura.tiers.profile import TierProfile
from aura.tiers.store import Access, Entry, MoveReport, Tier, TieredStore, TierState
from aura.tiers.tables import Json, ValueSchemaError, checked_table, scalars_of, table_part, with_scalars
from aura.tiers.values import Part

RESAMPLES = 1000
UNIFORM_BASIS = "uniform, the access log is empty"

OBJECTS = pa.schema(
    [
        ("key", pa.string()),
        ("kind", pa.string()),
        ("bytes", pa.int64()),
        ("weight", pa.float64()),
        ("tier_before", pa.string()),
        ("tier_after", pa.string()),
        ("predicted_seconds_before", pa.float64()),
        ("predicted_seconds_after", pa.float64()),
    ]
)
TIERS = pa.schema(
    [
        ("tier", pa.string()),
        ("capacity_bytes", pa.int64()),
        ("used_bytes_before", pa.int64()),
        ("used_bytes_after", pa.int64()),
        ("objects_before", pa.int64()),
        ("objects_after", pa.int64()),
    ]
)


@dataclass(frozen=True, eq=False)
class TierPlacement:
    """A plan that was applied, with what it promised and what was measured.

    Attributes:
        objects: One row per published object: key, kind, bytes, weight (expected accesses over the horizon), tier
            before and after, predicted seconds of one get before and after.
        tiers: One row per tier: capacity (null without limit), used bytes and objects before and after.
        basis: What the weights are from.
        accesses: Accesses of the log that concern these objects: the horizon.
        unmeasured: Published objects that were left alone, since the profile does not know the cost of their tier.
        predicted_cost_seconds: Predicted seconds of the horizon's accesses and of the moves (these with hysteresis).
        lower_bound_seconds: No placement within the capacities costs less, by the same prediction.
        measured_before: Measured latencies of the replayed accesses before the moves; None without objects.
        measured_after: The same accesses after the moves.
        moves: What the store reported of the moves.
        seed: Seed of the bootstrap.
    """

    objects: pa.Table
    tiers: pa.Table
    basis: str
    accesses: int
    unmeasured: int
    predicted_cost_seconds: float
    lower_bound_seconds: float
    measured_before: LatencySummary | None
    measured_after: LatencySummary | None
    moves: MoveReport
    seed: int

    def __post_init__(self) -> None:
        checked_table(self.objects, OBJECTS, "TierPlacement, objects")
        checked_table(self.tiers, TIERS, "TierPlacement, tiers")
        if self.predicted_cost_seconds < 0 or self.lower_bound_seconds < 0:
            raise ValueSchemaError(
                f"TierPlacement: cost {self.predicted_cost_seconds} and bound {self.lower_bound_seconds} must be >= 0 s"
            )

    @property
    def gap(self) -> float:
        """Predicted cost over the lower bound, minus 1."""
        return relative_gap(self.predicted_cost_seconds, self.lower_bound_seconds)

    @property
    def predicted_mean_before(self) -> float:
        """Predicted mean latency of a get before, in seconds, weighted by the expected accesses; NaN without any."""
        return self._weighted_mean("predicted_seconds_before")

    @property
    def predicted_mean_after(self) -> float:
        """Predicted mean latency of a get after."""
        return self._weighted_mean("predicted_seconds_after")

    @property
    def over_capacity(self) -> tuple[Tier, ...]:
        """Tiers that hold more than their capacity after the moves; always empty unless the store is broken."""
        over = self.tiers.filter(pc.field("used_bytes_after") > pc.field("capacity_bytes"))
        return tuple(Tier(tier) for tier in over["tier"].to_pylist())

    def _weighted_mean(self, column: str) -> float:
        weight = self.objects["weight"].to_numpy()
        return float(weight @ self.objects[column].to_numpy() / weight.sum()) if weight.sum() > 0 else float("nan")

    def to_parts(self) -> Mapping[str, Part]:
        """Take the placement apart into two tables; the scalars are in the first one's metadata."""
        scalars: dict[str, Json] = {
            "basis": self.basis,
            "accesses": self.accesses,
            "unmeasured": self.unmeasured,
            "predicted_cost_seconds": self.predicted_cost_seconds,
            "lower_bound_seconds": self.lower_bound_seconds,
            "measured_before": asdict(self.measured_before) if self.measured_before else None,
            "measured_after": asdict(self.measured_after) if self.measured_after else None,
            "moves": asdict(self.moves),
            "seed": self.seed,
        }
        return {"objects": with_scalars(self.objects, scalars), "tiers": self.tiers}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Part]) -> Self:
        """Put the placement together.

        Raises:
            ValueSchemaError: A part or a scalar is missing, or a table has other columns.
        """
        objects = table_part(parts, "objects", OBJECTS, "TierPlacement")
        scalars: dict[str, Any] = scalars_of(objects, "TierPlacement")
        try:
            for name in ("measured_before", "measured_after"):
                scalars[name] = LatencySummary(**scalars[name]) if scalars[name] else None
            refused = tuple((key, reason) for key, reason in scalars["moves"].pop("refused"))
            scalars["moves"] = MoveReport(**scalars["moves"], refused=refused)
            tiers = table_part(parts, "tiers", TIERS, "TierPlacement")
            return cls(objects=objects.replace_schema_metadata(None), tiers=tiers, **scalars)
        except (KeyError, TypeError) as error:
            raise ValueSchemaError(
                f"TierPlacement: the scalars {sorted(scalars)} are not those of this version ({error}); plan again"
            ) from error


def plan_and_apply(
    store: TieredStore,
    profile: TierProfile,
    *,
    half_life: int = 50_000,
    hysteresis: float = 0.25,
    headroom: float = 0.05,
    replay: int = 20_000,
    seed: int = 0,
) -> TierPlacement:
    """Place all published objects by their expected accesses, move them, and measure what it gained.

    Another process that places objects of the same store at the same time waits for its turn.

    Args:
        store: The store; its access log says what is read how often.
        profile: Measured costs of its tiers. A tier that it does not know gets nothing.
        half_life: Accesses after which an access counts half.
        hysteresis: A move must promise this share more than it costs.
        headroom: Share of every limited tier that is left free, for new objects and for the next profile.
        replay: How many of the log's last accesses are replayed, at most; before each replay every object in it is
            read once.
        seed: Seed of the bootstrap.

    Returns:
        The applied placement.

    Raises:
        ValueError: A parameter is out of its range.
        StoreError: The store failed.
    """
    if replay < 1:
        raise ValueError(f"replay is {replay}: at least one access is needed to measure")
    with FileLock(store.directory / "placement.lock"):
        published, states, log = store.entries(VALUES), store.tiers(), store.access_log()
        entries = [entry for entry in published if profile.knows(entry.tier, entry.kind)]
        plan = plan_placement(
            entries, states, log, profile, half_life=half_life, hysteresis=hysteresis, headroom=headroom
        )
        accesses = _replayed_keys(entries, log, replay)
        measured_before = _replay(store, accesses, seed)
        moves = apply_moves(store, plan.moves)
        measured_after = _replay(store, accesses, seed)
        tier_after = {entry.key: entry.tier for entry in store.entries(VALUES)}
        states_after = store.tiers()
    rows = np.arange(len(entries))
    after = np.array([plan.tiers.index(tier_after.get(entry.key, entry.tier)) for entry in entries], dtype=np.int64)
    return TierPlacement(
        objects=_object_rows(plan, after),
        tiers=_tier_rows(states, states_after),
        basis=f"access log, half-life {half_life} accesses" if plan.accesses else UNIFORM_BASIS,
        accesses=plan.accesses,
        unmeasured=len(published) - len(entries),
        predicted_cost_seconds=float(plan.costs[rows, after].sum()),
        lower_bound_seconds=plan.solution.lower_bound,
        measured_before=measured_before,
        measured_after=measured_after,
        moves=moves,
        seed=seed,
    )


def restore_placement(store: TieredStore, placement: TierPlacement) -> MoveReport:
    """Bring the objects of an earlier placement back to their tiers, after the memory tiers have started empty.

    Objects that are gone since, and tiers that this machine lacks, are passed over.
    """
    present = {entry.key for entry in store.entries(VALUES)}
    tiers = {state.tier for state in store.tiers()}
    wanted = zip(placement.objects["key"].to_pylist(), placement.objects["tier_after"].to_pylist(), strict=True)
    return apply_moves(store, {key: Tier(tier) for key, tier in wanted if key in present and Tier(tier) in tiers})


def apply_moves(store: TieredStore, targets: Mapping[str, Tier]) -> MoveReport:
    """Move objects, also where full tiers exchange theirs.

    Two full tiers have no room for a first exchange, so the store refuses it. What it refused drops its fast copy,
    which is free since L3 holds the durable one, and is asked for again.

    Returns:
        The report of all steps; an object counts once, by where it was and where it ended.
    """
    before = {entry.key: entry.tier for entry in store.entries() if entry.key in targets}
    steps = [store.move(targets)]
    stuck = [key for key, _ in steps[0].refused if before.get(key, Tier.L3) is not Tier.L3]
    if stuck:
        again = {key: targets[key] for key, _ in steps[0].refused}
        steps += [store.move(dict.fromkeys(stuck, Tier.L3)), store.move(again)]
    after = {entry.key: entry.tier for entry in store.entries() if entry.key in before}
    return MoveReport(
        promoted=sum(after[key] < before[key] for key in after),
        demoted=sum(after[key] > before[key] for key in after),
        bytes_moved=sum(step.bytes_moved for step in steps),
        seconds=sum(step.seconds for step in steps),
        refused=steps[-1].refused,
    )


def _replayed_keys(entries: Sequence[Entry], log: Access, most: int) -> list[str]:
    """The last accesses of the log that concern these objects, in order; every object once if there are none."""
    present = {entry.id: entry.key for entry in entries}
    known = log.ids[np.isin(log.ids, np.fromiter(present, dtype=np.int64, count=len(present)))][-most:]
    return [present[int(number)] for number in known] or [entry.key for entry in entries]


def _replay(store: TieredStore, keys: Sequence[str], seed: int) -> LatencySummary | None:
    """Read every object once to warm up, then time the accesses in order; without objects that vanish meanwhile."""
    left = list(keys)
    while left:
        try:
            store.time_gets(sorted(set(left)))
            return summarize_latencies(store.time_gets(left), resamples=RESAMPLES, seed=seed)
        except ObjectNotFoundError:
            present = {entry.key for entry in store.entries(VALUES)}
            left = [key for key in left if key in present]
    return None


def _object_rows(plan: Plan, after: np.ndarray) -> pa.Table:
    rows = np.arange(len(plan.entries))
    return pa.table(
        {
            "key": [entry.key for entry in plan.entries],
            "kind": [entry.kind for entry in plan.entries],
            "bytes": [entry.bytes for entry in plan.entries],
            "weight": plan.weights,
            "tier_before": [str(entry.tier) for entry in plan.entries],
            "tier_after": [str(plan.tiers[index]) for index in after],
            "predicted_seconds_before": plan.seconds[rows, plan.before],
            "predicted_seconds_after": plan.seconds[rows, after],
        },
        schema=OBJECTS,
    )


def _tier_rows(before: Sequence[TierState], after: Sequence[TierState]) -> pa.Table:
    return pa.table(
        {
            "tier": [str(state.tier) for state in before],
            "capacity_bytes": [state.capacity_bytes for state in before],
            "used_bytes_before": [state.used_bytes for state in before],
            "used_bytes_after": [state.used_bytes for state in after],
            "objects_before": [state.objects for state in before],
            "objects_after": [state.objects for state in after],
        },
        schema=TIERS,
    )
