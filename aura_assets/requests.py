"""Requests: which experts each used."""

from __future__ import annotations

import dagster as dg
from pydantic import Field

from aura.events.batches import OffsetRange
from aura.experts.plots import plot_activations
from aura.experts.routing.requests import RequestActivations, find_request
from aura_assets.asset import aura_asset
from aura_assets.checks import REQUEST_ACTIVATIONS
from aura_assets.metadata import picture
from aura_assets.partitions import requests
from aura_assets.step import Made
from resources.events import Events


class AnsweredRequest(dg.Config):
    """Where the event of the request is."""

    events: str = Field(
        "", description="Range of the event log, <topic>-<partition>:<first>-<end>; none: the topic is searched."
    )


@aura_asset(
    group="requests", kinds={"arrow"}, checks=REQUEST_ACTIVATIONS, partitions=requests, automatic=False, kept=True
)
def request_activations(
    context: dg.AssetExecutionContext, *, config: AnsweredRequest, events: dg.ResourceParam[Events]
) -> Made:
    """How many tokens of a request each expert of each layer of a model was given: its expert activation matrix.

    A request is a prompt that a mixture of experts was asked to answer, with the answer. Its event on the topic
    expert.requests makes it a partition.
    """
    with events.open() as log:
        found: RequestActivations = find_request(
            log, context.partition_key, OffsetRange.parse(config.events) if config.events else None
        )
    layers, experts = found.matrix.shape
    used = found.matrix > 0
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
    )


def requested_event(events: OffsetRange) -> dict[str, object]:
    """Run configuration of the job `requests` that makes it read these events."""
    return {"ops": {"request_activations": {"config": {"events": str(events)}}}}
