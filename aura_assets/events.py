"""The topics of the event log that the graph listens to."""

from __future__ import annotations

import dagster as dg

from aura.events.batches import OffsetRange
from aura_assets.asset import OWNERS
from aura_assets.partitions import sources

corpus_items = dg.AssetSpec(
    "corpus_items",
    group_name="events",
    kinds={"kafka"},
    owners=OWNERS,
    partitions_def=sources,
    description="Events that say which items of a source have changed. Its materializations say up to which offsets "
    "they have been acted on with success.",
)


def requested_events(events: OffsetRange) -> dict[str, object]:
    """Run configuration of the job `corpus` that makes it read this range of events."""
    return {"ops": {"corpus_manifest": {"config": {"events": str(events)}}}}
