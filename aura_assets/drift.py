"""Drift: what a source was, and whether it has become something else by more than chance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from aura.embeddings.table import EmbeddingTable
from aura.events.errors import EventError
from aura.events.event import new_event
from aura.experts.model import ExpertModel
from aura.experts.routing.vectors import router_probabilities
from aura.settings import Settings
from aura.tiers.catalog import Catalog
from aura.tiers.published import DAMAGE
from aura.tiers.store import TieredStore
from aura.topology.drift import embeddings as embeddings_drift
from aura.topology.drift.checks import items_needed
from aura.topology.drift.embeddings import DriftReference
from aura.topology.drift.plots import drift_plot
from aura.topology.drift.report import Decided, DriftReport, Outcome
from aura.topology.drift.routing import routing_drift
from aura.topology.drift.settings import DriftSettings
from aura_assets.asset import aura_asset
from aura_assets.checks import DRIFT, DRIFT_REFERENCE, NETWORK_DRIFT
from aura_assets.metadata import picture
from aura_assets.step import ACCEPT_TAG, Made
from resources.events import Events

TOPIC = "drift"
KIND = "drift.detected"


@aura_asset(group="drift", kinds={"arrow"}, checks=DRIFT_REFERENCE, kept=True)
def drift_reference(
    context: dg.AssetExecutionContext,
    text_embeddings: EmbeddingTable,
    *,
    settings: dg.ResourceParam[Settings],
    store: dg.ResourceParam[TieredStore],
) -> Made:
    """What the embeddings of a source were when it was first seen, or last accepted: a sample of its vectors.

    Kept whatever happens to the source, until somebody materializes it with the tag aura/accept=true.
    """
    return _reference(
        context,
        store,
        lambda: DriftReference.take(
            text_embeddings.table["item_id"].to_pylist(),
            text_embeddings.vectors,
            model=text_embeddings.model.name,
            fingerprint=text_embeddings.model.fingerprint,
            made_at=datetime.now(UTC),
            most=settings.drift.reference_items,
            seed=settings.drift.seed,
        ),
        items_needed(_settings(settings), _settings(settings).smallest_block),
    )


@aura_asset(group="drift", kinds={"gudhi", "arrow"}, checks=DRIFT, settings=("drift",), reusable=True)
def embedding_drift(
    context: dg.AssetExecutionContext,
    text_embeddings: EmbeddingTable,
    drift_reference: DriftReference,
    *,
    settings: dg.ResourceParam[Settings],
    store: dg.ResourceParam[TieredStore],
    events: dg.ResourceParam[Events],
) -> Made:
    """Whether the embeddings come from the distribution that the reference came from.

    Two tests on the same two samples, each with a permutation p-value: one on persistence diagrams of blocks of items,
    which sees shape and nothing that a rotation changes, and a plain one on the vectors. Their false alarms together
    keep to `drift.false_alarms`. An alarm is an event of the topic drift.
    """
    report = embeddings_drift.embedding_drift(
        drift_reference,
        text_embeddings.table["item_id"].to_pylist(),
        text_embeddings.vectors,
        model=text_embeddings.model.name,
        fingerprint=text_embeddings.model.fingerprint,
        settings=_settings(settings),
    )
    return _told(context, report, store, events)


@aura_asset(group="drift", kinds={"arrow"}, checks=DRIFT_REFERENCE, kept=True)
def network_reference(
    context: dg.AssetExecutionContext,
    text_embeddings: EmbeddingTable,
    expert_model: ExpertModel,
    *,
    settings: dg.ResourceParam[Settings],
    store: dg.ResourceParam[TieredStore],
) -> Made:
    """How the experts shared the items when they were first trained, or last accepted: a sample of routing weights.

    Kept until somebody materializes it with the tag aura/accept=true.
    """
    return _reference(
        context,
        store,
        lambda: DriftReference.take(
            text_embeddings.table["item_id"].to_pylist(),
            router_probabilities(expert_model, text_embeddings.vectors),
            model="expert_model",
            fingerprint=expert_model.card.data_digest,
            made_at=datetime.now(UTC),
            most=settings.drift.reference_items,
            seed=settings.drift.seed,
        ),
        items_needed(_settings(settings), settings.drift.network_window),
    )


@aura_asset(group="drift", kinds={"gudhi", "arrow"}, checks=NETWORK_DRIFT, settings=("drift",), reusable=True)
def network_drift(
    context: dg.AssetExecutionContext,
    text_embeddings: EmbeddingTable,
    expert_model: ExpertModel,
    network_reference: DriftReference,
    *,
    settings: dg.ResourceParam[Settings],
    store: dg.ResourceParam[TieredStore],
    events: dg.ResourceParam[Events],
) -> Made:
    """Whether the experts' network is the one that it was: which experts are wanted together, and which apart.

    Windows of items give networks of experts, joined by the correlation of their routing weights. The topological test
    compares the networks' persistence diagrams and knows no names, so experts that have only changed places after
    another training are no drift to it; the plain one compares the correlations expert by expert.
    """
    report = routing_drift(
        network_reference,
        text_embeddings.table["item_id"].to_pylist(),
        router_probabilities(expert_model, text_embeddings.vectors),
        model="expert_model",
        fingerprint=expert_model.card.data_digest,
        window=settings.drift.network_window,
        settings=_settings(settings),
    )
    return _told(context, report, store, events)


def _settings(settings: Settings) -> DriftSettings:
    return DriftSettings(false_alarms=settings.drift.false_alarms, seed=settings.drift.seed)


def _reference(
    context: dg.AssetExecutionContext, store: TieredStore, take: Callable[[], DriftReference], needed: int
) -> Made:
    """The reference that is there, unless there is none or another one is asked for.

    One that cannot be read fails the step: what is there now would take its place and hide the drift until now.
    """
    name, partition = context.asset_key.to_user_string(), context.partition_key
    catalog = Catalog(store)
    accepted = context.run.tags.get(ACCEPT_TAG) == "true"
    previous = None if accepted else catalog.load_previous(DriftReference, name, partition)
    if previous is None and not accepted and _was_published(catalog, name, partition):
        raise dg.Failure(
            description=f"{name}[{partition}] is there and cannot be read, so nobody knows any more what the source "
            f"was; to compare with what is there now, materialize it with the tag {ACCEPT_TAG}=true",
            allow_retries=False,
        )
    reference = previous or take()
    side = reference.side
    made_at = "" if side.made_at is None else side.made_at.isoformat(timespec="seconds")
    return Made(
        reference,
        rows=len(reference.ids),
        figures={
            "items": side.items,
            "kept": len(reference.ids),
            "items_needed_for_an_alarm": needed,
            "dimension": reference.vectors.shape[1],
        },
        metadata={
            "why": "kept" if previous is not None else "accepted by the run's tag" if accepted else "first seen",
            "taken_at": made_at,
            "model": f"{side.source} ({side.fingerprint[:8]})",
            "accept": f"To compare with what is there now, materialize this with the tag {ACCEPT_TAG}=true.",
        },
    )


def _was_published(catalog: Catalog, name: str, partition: str) -> bool:
    try:
        return catalog.find(name, partition) is not None
    except DAMAGE:
        return True


def _told(context: dg.AssetExecutionContext, report: DriftReport, store: TieredStore, events: Events) -> Made:
    name, partition = context.asset_key.to_user_string(), context.partition_key
    figures: dict[str, float] = {"false_alarms": report.settings.false_alarms, "shared_items": report.shared}
    for test, outcome in (("topology", report.topology), ("plain", report.plain)):
        if isinstance(outcome, Decided):
            figures |= {f"{test}_p_value": outcome.p_value, f"{test}_statistic": outcome.statistic}
            figures |= {f"{test}_threshold": outcome.threshold}

    # The same decision is the same event, however often it is made.
    version = Catalog(store).prepare(report).version

    def publish(_: str | None) -> Mapping[str, Any]:
        return {"event": _publish(context, events, f"{name}/{partition}", version, report)} if report.drifted else {}

    return Made(
        report,
        rows=report.current.items,
        figures=figures,
        metadata={
            "verdict": report.verdict.value,
            "sentence": report.sentence,
            "compared_with": f"{report.reference.source} ({report.reference.fingerprint[:8]}), "
            f"{report.reference.items} items",
            "drift": picture(drift_plot(report), "both tests: what chance gives, the threshold, what was observed"),
        },
        when_published=publish,
    )


def _publish(context: dg.AssetExecutionContext, events: Events, key: str, version: str, report: DriftReport) -> str:
    """Tell the event log. That it refuses costs the event, not the decision, which is published already."""
    asset, _, partition = key.partition("/")
    event = new_event(
        KIND,
        {
            "asset": asset,
            "partition": partition,
            "verdict": report.verdict.value,
            "false_alarms": report.settings.false_alarms,
            "topology": _test(report.topology),
            "plain": _test(report.plain),
            "sentence": report.sentence,
            "run_id": context.run.run_id,
        },
        source="dagster",
        key=key,
        id=f"{KIND}/{key}/{version}",
    )
    try:
        with events.open() as log:
            (ack,) = log.publish(TOPIC, [event])
    except EventError as error:
        context.log.warning("the drift of %s is not in the event log: %s", key, error)
        return f"not sent: {error}"
    if ack.offset is None:
        return f"{KIND} waits on this machine until the broker of {ack.topic} answers"
    return f"{KIND} on {ack.topic}, partition {ack.partition}, offset {ack.offset}"


def _test(outcome: Outcome) -> dict[str, object] | None:
    if not isinstance(outcome, Decided):
        return None
    return {
        "statistic": outcome.statistic,
        "threshold": outcome.threshold,
        "p_value": outcome.p_value,
        "alarm": outcome.alarm,
    }
