"""Where every published object, and every expert, lives: planned, applied, measured by a replay of the access log.

Belongs here: `TierPlacement`, applying a plan, the replays before and after.
Does not: the plan itself (`plan.py`), measuring tiers (`profile.py`), replaying (`prediction.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock

from aura.tiers.places import PLACED
from aura.tiers.planning.history import HISTORY, Moment, extended
from aura.tiers.planning.knapsack import relative_gap
from aura.tiers.planning.latency import LatencySummary
from aura.tiers.planning.plan import Plan, plan_placement
from aura.tiers.planning.prediction import PredictedMean, Replay, replay
from aura.tiers.planning.profile import TierProfile
from aura.tiers.records import Access, Entry, MoveReport, Tier, TierState
from aura.tiers.store import TieredStore
from aura.tiers.tables import Json, ValueSchemaError, checked_table, scalars_of, table_part, with_scalars
from aura.tiers.values import Part

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
        predicted_cost_before_seconds: Predicted seconds of the horizon's accesses if nothing moved.
        planned_cost_seconds: Predicted seconds of the horizon's accesses and of the moves (these with hysteresis), as
            planned.
        predicted_cost_seconds: The same of where the objects are now: some may have been refused, or moved by others.
        lower_bound_seconds: No placement within the capacities costs less, by the same prediction.
        replay_before: Predicted and measured latencies of the replayed accesses before the moves; None without objects.
        replay_after: Those of the same accesses after the moves.
        moves: What the store reported of the moves.
        history: What the tiers held and what reading cost after this placement and those before it, see `HISTORY`.
        seed: Seed of the bootstrap.
    """

    objects: pa.Table
    tiers: pa.Table
    basis: str
    accesses: int
    unmeasured: int
    predicted_cost_before_seconds: float
    planned_cost_seconds: float
    predicted_cost_seconds: float
    lower_bound_seconds: float
    replay_before: Replay | None
    replay_after: Replay | None
    moves: MoveReport
    history: pa.Table
    seed: int

    def __post_init__(self) -> None:
        checked_table(self.objects, OBJECTS, "TierPlacement, objects")
        checked_table(self.tiers, TIERS, "TierPlacement, tiers")
        checked_table(self.history, HISTORY, "TierPlacement, history")
        costs = (self.predicted_cost_before_seconds, self.planned_cost_seconds, self.predicted_cost_seconds)
        if min(*costs, self.lower_bound_seconds) < 0:
            raise ValueSchemaError(
                f"TierPlacement: costs {costs} and bound {self.lower_bound_seconds} must be >= 0 s; plan again"
            )

    @property
    def gap(self) -> float:
        """Predicted cost over the lower bound, minus 1."""
        return relative_gap(self.predicted_cost_seconds, self.lower_bound_seconds)

    @property
    def measured_before(self) -> LatencySummary | None:
        """Measured latencies of the replayed accesses before the moves; None without objects."""
        return self.replay_before.measured if self.replay_before else None

    @property
    def measured_after(self) -> LatencySummary | None:
        """Measured latencies of the same accesses after the moves."""
        return self.replay_after.measured if self.replay_after else None

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
        """Take the placement apart into three tables; the scalars are in the first one's metadata."""
        scalars: dict[str, Json] = {
            "basis": self.basis,
            "accesses": self.accesses,
            "unmeasured": self.unmeasured,
            "predicted_cost_before_seconds": self.predicted_cost_before_seconds,
            "planned_cost_seconds": self.planned_cost_seconds,
            "predicted_cost_seconds": self.predicted_cost_seconds,
            "lower_bound_seconds": self.lower_bound_seconds,
            "replay_before": asdict(self.replay_before) if self.replay_before else None,
            "replay_after": asdict(self.replay_after) if self.replay_after else None,
            "moves": asdict(self.moves),
            "seed": self.seed,
        }
        return {"objects": with_scalars(self.objects, scalars), "tiers": self.tiers, "history": self.history}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Part]) -> Self:
        """Put the placement together.

        Raises:
            ValueSchemaError: A part or a scalar is missing, or a table has other columns.
        """
        objects = table_part(parts, "objects", OBJECTS, "TierPlacement")
        scalars: dict[str, Any] = scalars_of(objects, "TierPlacement")
        try:
            for name in ("replay_before", "replay_after"):
                scalars[name] = _replay_of(scalars[name]) if scalars[name] else None
            refused = tuple((key, reason) for key, reason in scalars["moves"].pop("refused"))
            scalars["moves"] = MoveReport(**scalars["moves"], refused=refused)
            tiers = table_part(parts, "tiers", TIERS, "TierPlacement")
            history = table_part(parts, "history", HISTORY, "TierPlacement")
            return cls(objects=objects.replace_schema_metadata(None), tiers=tiers, history=history, **scalars)
        except (KeyError, TypeError) as error:
            raise ValueSchemaError(
                f"TierPlacement: the scalars {sorted(scalars)} are not those of this version ({error}); plan again"
            ) from error


def plan_and_apply(
    store: TieredStore,
    profile: TierProfile,
    *,
    previous: TierPlacement | None = None,
    short_half_life: int = 2_000,
    long_half_life: int = 50_000,
    hysteresis: float = 0.25,
    headroom: float = 0.05,
    replayed: int = 20_000,
    seed: int = 0,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> TierPlacement:
    """Place all published objects and experts by their expected accesses, move them, and measure what it gained.

    Another process that places objects of the same store at the same time waits for its turn.

    Args:
        store: The store; its access log says what is read how often.
        profile: Measured costs of its tiers. A tier that it does not know gets nothing.
        previous: The placement before this one, whose history goes on.
        short_half_life: Accesses after which an access counts half in the short moving average.
        long_half_life: The same in the long one.
        hysteresis: A move must promise this share more than it costs.
        headroom: Share of every limited tier that is left free, for new objects and for the next profile.
        replayed: How many of the log's last accesses are replayed, at most; before each replay every object in it is
            read once.
        seed: Seed of the bootstrap.
        clock: Tells the time of the placement, with a time zone.

    Returns:
        The applied placement.

    Raises:
        ValueError: A parameter is out of its range.
        StoreError: The store failed.
    """
    if replayed < 1:
        raise ValueError(f"replayed is {replayed}: at least one access is needed to measure")
    with FileLock(store.directory / "placement.lock"):
        published, states, log = placed_objects(store), store.tiers(), store.access_log()
        entries = [entry for entry in published if profile.knows(entry.tier, entry.kind)]
        plan = plan_placement(
            entries,
            states,
            log,
            profile,
            short_half_life=short_half_life,
            long_half_life=long_half_life,
            hysteresis=hysteresis,
            headroom=headroom,
        )
        accesses = _replayed_keys(entries, log, replayed)
        replay_before = replay(store, profile, accesses, seed=seed)
        moves = apply_moves(store, plan.moves)
        replay_after = replay(store, profile, accesses, seed=seed)
        tier_after = {entry.key: entry.tier for entry in placed_objects(store)}
        states_after = store.tiers()
    rows = np.arange(len(entries))
    after = np.array([plan.tiers.index(tier_after.get(entry.key, entry.tier)) for entry in entries], dtype=np.int64)
    cost_before, cost = (float(plan.costs[rows, tiers].sum()) for tiers in (plan.before, after))
    moment = Moment(
        at=clock(),
        held={state.tier: state.used_bytes for state in states_after},
        accesses=plan.expected.accesses,
        cost_before_seconds=cost_before,
        cost_seconds=cost,
        lower_bound_seconds=plan.solution.lower_bound,
        measured_mean_seconds=replay_after.measured.mean_seconds if replay_after else None,
        predicted_mean_seconds=replay_after.predicted.mean_seconds if replay_after else None,
    )
    return TierPlacement(
        objects=_object_rows(plan, after),
        tiers=_tier_rows(states, states_after),
        basis=_basis(plan, short_half_life, long_half_life),
        accesses=plan.expected.accesses,
        unmeasured=len(published) - len(entries),
        predicted_cost_before_seconds=cost_before,
        planned_cost_seconds=plan.solution.cost,
        predicted_cost_seconds=cost,
        lower_bound_seconds=plan.solution.lower_bound,
        replay_before=replay_before,
        replay_after=replay_after,
        moves=moves,
        history=extended(previous.history if previous else None, moment),
        seed=seed,
    )


def placed_objects(store: TieredStore) -> list[Entry]:
    """The objects that a placement moves: blocks of published values, and experts."""
    return [entry for prefix in PLACED for entry in store.entries(prefix)]


def restore_placement(store: TieredStore, placement: TierPlacement) -> MoveReport:
    """Bring the objects of an earlier placement back to their tiers, after the memory tiers have started empty.

    Objects that are gone since, and tiers that this machine lacks, are passed over.
    """
    present = {entry.key for entry in placed_objects(store)}
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


def _replay_of(fields: Mapping[str, Any]) -> Replay:
    return Replay(
        PredictedMean(**fields["predicted"]), LatencySummary(**fields["measured"]), fields["calm_mean_seconds"]
    )


def _basis(plan: Plan, short_half_life: int, long_half_life: int) -> str:
    expected = plan.expected
    if not expected.accesses:
        return UNIFORM_BASIS
    return (
        f"access log: {expected.short_share:.0%} by the average with a half-life of {short_half_life} accesses, "
        f"{expected.long_share:.0%} by that of {long_half_life}, {expected.uniform_share:.0%} all alike"
    )


def _object_rows(plan: Plan, after: np.ndarray) -> pa.Table:
    rows = np.arange(len(plan.entries))
    return pa.table(
        {
            "key": [entry.key for entry in plan.entries],
            "kind": [entry.kind for entry in plan.entries],
            "bytes": [entry.bytes for entry in plan.entries],
            "weight": plan.expected.weights,
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
