"""Tiers: what each memory costs on this machine, and where the objects should live."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import dagster as dg

from aura.events.errors import EventError
from aura.graph.lineage import StoredSize, decided, materialization_node, placed
from aura.graph.model import Write
from aura.tiers.catalog import Catalog
from aura.tiers.planning.placement import TierPlacement, plan_and_apply
from aura.tiers.planning.plots import plot_history, plot_placement, plot_profile
from aura.tiers.planning.profile import TierProfile, measure_profile
from aura.tiers.store import TieredStore
from aura_assets.asset import aura_asset
from aura_assets.automation import every_day
from aura_assets.checks import TIER_PLACEMENT, TIER_PROFILE
from aura_assets.metadata import markdown_table, picture
from aura_assets.step import Made
from resources.events import Events
from resources.instruments import Instruments
from resources.progress import Progress
from sensors.memory_operations import hear


@aura_asset(group="tiers", kinds={"rocksdb", "python"}, checks=TIER_PROFILE, partitioned=False, automation=every_day(4))
def tier_profile(
    context: dg.AssetExecutionContext,  # noqa: ARG001 - every asset function has it
    store: dg.ResourceParam[TieredStore],
    progress: dg.ResourceParam[Progress],
    instruments: dg.ResourceParam[Instruments],
) -> Made:
    """What a get and a put cost in each tier of this machine, by size: latency = a + b * bytes, measured.

    Both coefficients have 95 % confidence intervals; joules per byte come from energy counters, where there are any.
    Measured in the process that owns the store. A tier that the machine does not have is not in the profile.
    """
    profile = measure_profile(store, progress=progress("tier_profile"), meter=instruments.meter)
    return Made(
        profile,
        rows=profile.samples.num_rows,
        figures={
            f"{tier}_get_64kib_us": 1e6 * float(profile.predict_seconds(tier, 64 * 1024)) for tier in profile.tiers
        },
        metadata={
            "machine": profile.machine,
            "energy_per_byte": profile.energy,
            "interrupted": f"gets took {profile.interrupted - 1:.1%} longer than without interruptions",
            "costs": markdown_table(profile.costs),
            "latency": picture(plot_profile(profile), "latency by size, tier and operation"),
        },
    )


@aura_asset(
    group="tiers",
    kinds={"rocksdb", "python"},
    checks=TIER_PLACEMENT,
    partitioned=False,
    deps=("text_embeddings", "embedding_diagrams", "expert_routing_table"),
    automation=every_day(5),
)
def tier_placement(
    context: dg.AssetExecutionContext,
    tier_profile: TierProfile,
    store: dg.ResourceParam[TieredStore],
    events: dg.ResourceParam[Events],
) -> Made:
    """Where each object should live: the placement of least expected cost within the tiers' capacities, applied.

    Expected accesses come from a short and a long moving average of the access log, costs from the profile; the lower
    bound is what the prices of the tiers' bytes prove. The mean get latency before and after is predicted, and measured
    by replaying the log through the store. Blocks that killed runs left behind are removed first, since they need no
    place.
    """
    heard = _heard(context, events)
    swept = Catalog(store).sweep()
    previous = Catalog(store).load_previous(TierPlacement, "tier_placement", None)
    placement = plan_and_apply(store, tier_profile, previous=previous)
    figures = {
        "swept_blocks": swept,
        "accesses": placement.accesses,
        "predicted_cost_before_seconds": placement.predicted_cost_before_seconds,
        "predicted_cost_seconds": placement.predicted_cost_seconds,
        "lower_bound_seconds": placement.lower_bound_seconds,
        "gap_to_bound": placement.gap,
        "promoted": placement.moves.promoted,
        "demoted": placement.moves.demoted,
        "bytes_moved": placement.moves.bytes_moved,
    }
    capacities = {}
    for row in placement.tiers.to_pylist():
        tier, capacity = row["tier"], row["capacity_bytes"]
        capacities[f"{tier}_capacity_bytes"] = "no limit" if capacity is None else str(capacity)
        figures |= {f"{tier}_{held}": row[held] for held in ("used_bytes_before", "used_bytes_after", "objects_after")}
    for name, replay in (("before", placement.replay_before), ("after", placement.replay_after)):
        if replay is not None:
            figures[f"mean_get_us_{name}"] = 1e6 * replay.measured.mean_seconds
            figures[f"predicted_get_us_{name}"] = 1e6 * replay.predicted.mean_seconds
            figures[f"prediction_error_{name}"] = replay.relative_error
    return Made(
        placement,
        rows=placement.objects.num_rows,
        figures=figures,
        metadata={
            "basis": placement.basis,
            "tiers": markdown_table(placement.tiers),
            "before_and_after": picture(
                plot_placement(placement), "bytes per tier, latency and cost, before and after"
            ),
            "over_time": picture(plot_history(placement), "size of each tier and cost of an access over time"),
            **heard,
        },
        parameters={"basis": placement.basis, **capacities},
        lineage=lambda version: [
            *_whereabouts(store),
            *decided(
                f"placement/{context.run.run_id}",
                about=materialization_node(version),
                outcome=f"{placement.moves.promoted} objects promoted, {placement.moves.demoted} demoted",
                reason=placement.basis,
                at=datetime.now(UTC),
            ),
        ],
    )


def _whereabouts(store: TieredStore) -> list[Write]:
    objects = (StoredSize(entry.key, str(entry.tier), entry.bytes) for entry in store.entries())
    return placed(objects, [str(state.tier) for state in store.tiers()])


def _heard(context: dg.AssetExecutionContext, events: Events) -> Mapping[str, object]:
    """Up to where the placement knows the log of operations; a log that is down costs this, not the placement."""
    try:
        return hear(context.instance, dg.AssetKey("tier_placement"), events).metadata()
    except EventError as error:
        context.log.warning("The placement does not know the operations that were published: %s", error)
        return {}
