"""The corpus: what there is to read."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
from pydantic import Field

from aura.corpus.manifest import CorpusManifest
from aura.corpus.opening import open_registered
from aura.corpus.plots import plot_labels
from aura.corpus.registry import SourceRegistry
from aura.events.batches import OffsetRange
from aura.events.scan import read_range
from aura.graph.lineage import source_items
from aura.settings import Settings
from aura.tiers.catalog import Catalog
from aura.tiers.store import TieredStore
from aura_assets.asset import aura_asset
from aura_assets.checks import MANIFEST
from aura_assets.metadata import markdown_table, picture
from aura_assets.step import Made
from resources.events import Events
from resources.progress import Progress
from sensors.corpus_items import source_of

SHOWN_SET_ASIDE = 50
"""Rows of the table of set-aside items in the UI; the manifest itself has all of them."""


class ManifestRequest(dg.Config):
    """Why the manifest is made."""

    events: str = Field(
        "", description="Range of the event log that asked for it, <topic>-<partition>:<first>-<end>; none: nobody did."
    )


@aura_asset(group="corpus", kinds={"arrow", "python"}, checks=MANIFEST, settings=("corpus",), deps=("corpus_items",))
def corpus_manifest(
    context: dg.AssetExecutionContext,
    *,
    config: ManifestRequest,
    events: dg.ResourceParam[Events],
    registry: dg.ResourceParam[SourceRegistry],
    store: dg.ResourceParam[TieredStore],
    settings: dg.ResourceParam[Settings],
    progress: dg.ResourceParam[Progress],
) -> Made:
    """What a source holds: every item by its content, and what was set aside with the reason.

    Items are addressed by a digest of their content, so that everything downstream knows what is new, what has changed
    and what is gone. Texts travel in the manifest; images and sounds stay where they are and are verified when read.
    """
    name = context.partition_key
    # First, so that events that cannot be read fail the run before it costs anything.
    named = _named_items(config.events, events, name)
    manifest = open_registered(name, registry, settings.corpus).scan(progress(f"list {name}"))
    changes = manifest.changes_since(Catalog(store).load_previous(CorpusManifest, "corpus_manifest", name))
    set_aside = manifest.set_aside()
    return Made(
        manifest,
        rows=manifest.table.num_rows,
        figures={
            "added": len(changes.added),
            "changed": len(changes.changed),
            "removed": len(changes.removed),
            "unchanged": len(changes.unchanged),
            "set_aside": set_aside.num_rows,
            **_heard(named, manifest),
        },
        metadata={
            "labels": picture(plot_labels(manifest), "items per label"),
            "items": markdown_table(manifest.counts()),
            **({"set_aside_items": markdown_table(set_aside.slice(0, SHOWN_SET_ASIDE))} if set_aside.num_rows else {}),
        },
        lineage=lambda _: source_items(name, _labelled_items(manifest)),
    )


def _named_items(requested: str, events: Events, source: str) -> list[tuple[str, ...]] | None:
    """The items that each event of the range names as changed in this source; None if no range was given."""
    if not requested:
        return None
    with events.open() as log:
        records = read_range(log, OffsetRange.parse(requested))
    return [tuple(record.event.data["changed"]) for record in records if source_of(record) == source]


def _labelled_items(manifest: CorpusManifest) -> Iterator[tuple[str, str]]:
    table = manifest.table
    return ((uri, label or "") for uri, label in zip(table["uri"].to_pylist(), table["label"].to_pylist(), strict=True))


def _heard(named: list[tuple[str, ...]] | None, manifest: CorpusManifest) -> dict[str, float]:
    if named is None:
        return {}
    items = {item for each in named for item in each}
    there = set(manifest.table["uri"].to_pylist()) | set(manifest.table["item_id"].to_pylist())
    return {"events": len(named), "items_named": len(items), "items_named_but_not_there": len(items - there)}
