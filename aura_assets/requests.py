"""Requests: which experts each used."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import dagster as dg
from pydantic import Field

from aura.events.batches import OffsetRange
from aura.experts.plots import plot_activations
from aura.experts.routing.requests import RequestActivations, find_request
from aura.settings import Settings
from aura.tiers.catalog import Catalog
from aura.tiers.errors import StoreError
from aura.tiers.store import TieredStore
from aura_assets.asset import aura_asset
from aura_assets.checks import REQUEST_ACTIVATIONS
from aura_assets.metadata import picture
from aura_assets.partitions import requests
from aura_assets.step import Made
from resources.events import Events

logger = logging.getLogger(__name__)


class AnsweredRequest(dg.Config):
    """Where the event of the request is."""

    events: str = Field(
        "", description="Range of the event log, <topic>-<partition>:<first>-<end>; none: the topic is searched."
    )


@aura_asset(
    group="requests", kinds={"arrow"}, checks=REQUEST_ACTIVATIONS, partitions=requests, automatic=False, kept=True
)
def request_activations(
    context: dg.AssetExecutionContext,
    *,
    config: AnsweredRequest,
    events: dg.ResourceParam[Events],
    settings: dg.ResourceParam[Settings],
    store: dg.ResourceParam[TieredStore],
) -> Made:
    """How many tokens of a request each expert of each layer of a model was given: its expert activation matrix.

    A request is a prompt that a mixture of experts was asked to answer, with the answer. Its event on the topic
    expert.requests makes it a partition. Of more than experts.kept_requests those that were kept first go, with their
    partitions.
    """
    with events.open() as log:
        found: RequestActivations = find_request(
            log, context.partition_key, OffsetRange.parse(config.events) if config.events else None
        )
    layers, experts = found.matrix.shape
    used = found.matrix > 0

    def forget_old(_: str | None) -> Mapping[str, int]:
        try:
            return {"forgotten_requests": forget_oldest(context.instance, store, settings.experts.kept_requests)}
        except StoreError as error:
            logger.warning("old requests are still kept, until the next one comes: %s", error)
            return {}

    return Made(
        found,
        rows=layers * experts,
        figures={
            "tokens": found.tokens,
            "layers": layers,
            "experts": experts,
            "experts_used_share": used.mean(),
            "experts_used_in_a_layer": used.sum(axis=1).mean(),
        },
        metadata={
            "model": found.model,
            "answered_at": found.at.isoformat(timespec="seconds"),
            "activations": picture(plot_activations(found), "tokens by layer and expert"),
        },
        when_published=forget_old,
    )


def forget_oldest(instance: dg.DagsterInstance, store: TieredStore, most: int) -> int:
    """Take back the requests that were kept before the latest `most`, and their partitions.

    Older partitions that hold nothing, since their runs have failed, go with them.

    Returns:
        The number of requests that were taken back.

    Raises:
        StoreError: The store failed; what is left is taken back the next time.
    """
    catalog, name = Catalog(store), request_activations.key.to_user_string()
    kept = [published for published in catalog.published() if published.name == name]
    by_age = [str(each.partition) for each in sorted(kept, key=lambda published: published.created_at)]
    old, latest = by_age[:-most], set(by_age[-most:])
    for request in old:
        catalog.withdraw(name, request)
    # In the order in which they were added.
    partitions = list(requests.get_partition_keys(dynamic_partitions_store=instance))
    last = max((place for place, request in enumerate(partitions) if request in old), default=-1)
    for request in partitions[: last + 1]:
        if request not in latest:
            instance.delete_dynamic_partition(str(requests.name), request)
    return len(old)


def requested_event(events: OffsetRange) -> dict[str, object]:
    """Run configuration of the job `requests` that makes it read these events."""
    return {"ops": {"request_activations": {"config": {"events": str(events)}}}}
