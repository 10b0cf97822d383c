"""Jobs and the schedule."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg

from aura_assets.partitions import sources

PARTITIONED_GROUPS = ("corpus", "embeddings", "joint", "search", "topology", "experts", "drift")

corpus = dg.define_asset_job(
    "corpus",
    selection=dg.AssetSelection.groups(*PARTITIONED_GROUPS),
    description="List one source and bring everything that follows from it up to date.",
)

listing = dg.define_asset_job(
    "listing",
    selection=dg.AssetSelection.assets("corpus_manifest"),
    description="List one source; what follows is recomputed by automation if the content has changed.",
)

tiers = dg.define_asset_job(
    "tiers",
    selection=dg.AssetSelection.groups("tiers"),
    description="Measure the tiers, place the objects, measure what it gained.",
)

placement = dg.define_asset_job(
    "placement",
    selection=dg.AssetSelection.assets("tier_placement"),
    description="Place the objects anew with the costs that were measured last.",
)

language = dg.define_asset_job(
    "language",
    selection=dg.AssetSelection.groups("language"),
    description="Train a language model with experts and its dense twin of one seed; compare once all seeds are there.",
)

requests = dg.define_asset_job(
    "requests",
    selection=dg.AssetSelection.groups("requests"),
    description="Keep which experts one request used.",
)

notebooks = dg.define_asset_job(
    "notebooks",
    selection=dg.AssetSelection.groups("notebooks"),
    description="Run the notebooks on what is published, and keep them with their outputs.",
)

JOBS = (corpus, listing, tiers, placement, language, requests, notebooks)


@dg.schedule(
    job=listing,
    cron_schedule="0 * * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Looks every hour for new, changed and removed items in each source.",
)
def hourly_listing(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
    """One run per source and hour."""
    hour = context.scheduled_execution_time.strftime("%Y-%m-%dT%H")
    for name in sources.get_partition_keys(dynamic_partitions_store=context.instance):
        yield dg.RunRequest(run_key=f"{name} {hour}", partition_key=name)
