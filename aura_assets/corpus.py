"""The corpus: what there is to read."""

from __future__ import annotations

import dagster as dg

from aura.corpus.manifest import CorpusManifest
from aura.corpus.plots import plot_labels
from aura.corpus.registry import SourceRegistry
from aura.corpus.sources import Limits, Source, open_source
from aura.settings import Settings
from aura.tiers.catalog import Catalog
from aura.tiers.store import TieredStore
from aura_assets.asset import aura_asset
from aura_assets.checks import MANIFEST
from aura_assets.metadata import markdown_table, picture
from aura_assets.step import Made
from resources.progress import Progress

SHOWN_SET_ASIDE = 50
"""Rows of the table of set-aside items in the UI; the manifest itself has all of them."""


def watched_source(name: str, registry: SourceRegistry, settings: Settings) -> Source:
    """The registered source of this name, with the configured limits."""
    limits = Limits(file_bytes=int(settings.corpus.max_file_bytes), text_bytes=int(settings.corpus.max_text_bytes))
    return open_source(registry.get(name), limits)


@aura_asset(group="corpus", kinds={"arrow", "python"}, checks=MANIFEST, settings=("corpus",))
def corpus_manifest(
    context: dg.AssetExecutionContext,
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
    manifest = watched_source(name, registry, settings).scan(progress(f"list {name}"))
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
        },
        metadata={
            "labels": picture(plot_labels(manifest), "items per label"),
            "items": markdown_table(manifest.counts()),
            **({"set_aside_items": markdown_table(set_aside.slice(0, SHOWN_SET_ASIDE))} if set_aside.num_rows else {}),
        },
    )
