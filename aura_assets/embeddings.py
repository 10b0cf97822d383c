"""Embeddings: items as vectors of real models."""

from __future__ import annotations

from dataclasses import asdict

import dagster as dg
import pyarrow as pa

from aura.corpus.manifest import CorpusManifest
from aura.corpus.registry import SourceRegistry
from aura.embeddings.incremental import EmbeddingReport, embed_items
from aura.embeddings.plots import scatter
from aura.embeddings.table import EmbeddingTable
from aura.settings import Settings
from aura.tiers.catalog import Catalog
from aura.tiers.store import TieredStore
from aura_assets.asset import aura_asset
from aura_assets.checks import EMBEDDINGS
from aura_assets.corpus import watched_source
from aura_assets.metadata import markdown_table, picture
from aura_assets.step import Made, Skipped
from resources.encoders import Encoders
from resources.progress import Progress


@aura_asset(group="embeddings", kinds={"pytorch", "arrow"}, checks=EMBEDDINGS, settings=("embeddings",), wants_gpu=True)
def text_embeddings(
    context: dg.AssetExecutionContext,
    corpus_manifest: CorpusManifest,
    encoders: dg.ResourceParam[Encoders],
    store: dg.ResourceParam[TieredStore],
    progress: dg.ResourceParam[Progress],
) -> Made | Skipped:
    """Unit vectors of the texts, by a sentence transformer.

    Only new or changed items are encoded; the vectors of the others are taken over bit by bit. Another model, or other
    settings of it, encode everything anew.
    """
    items = corpus_manifest.items("text")
    if items.num_rows == 0:
        return Skipped("no text items in this source")
    partition = context.partition_key
    table, report = embed_items(
        items,
        encoders.text,
        previous=Catalog(store).load_previous(EmbeddingTable, "text_embeddings", partition),
        progress=progress(f"text_embeddings[{partition}]"),
    )
    return _made(table, report)


@aura_asset(group="embeddings", kinds={"pytorch", "arrow"}, checks=EMBEDDINGS, settings=("embeddings",), wants_gpu=True)
def image_embeddings(
    context: dg.AssetExecutionContext,
    corpus_manifest: CorpusManifest,
    *,
    encoders: dg.ResourceParam[Encoders],
    registry: dg.ResourceParam[SourceRegistry],
    settings: dg.ResourceParam[Settings],
    store: dg.ResourceParam[TieredStore],
    progress: dg.ResourceParam[Progress],
) -> Made | Skipped:
    """Unit vectors of the images, by a CLIP, SigLIP or ViT model.

    Skipped while no weights are configured: set `AURA_EMBEDDINGS__IMAGE_MODEL` to a directory or a hub name.
    """
    items = corpus_manifest.items("image")
    if items.num_rows == 0:
        return Skipped("no image items in this source")
    if encoders.image is None:
        return Skipped("no weights configured; set AURA_EMBEDDINGS__IMAGE_MODEL to a directory or a hub name")
    partition = context.partition_key
    table, report = embed_items(
        items,
        encoders.image,
        previous=Catalog(store).load_previous(EmbeddingTable, "image_embeddings", partition),
        read=watched_source(partition, registry, settings).read,
        progress=progress(f"image_embeddings[{partition}]"),
    )
    return _made(table, report)


def _made(table: EmbeddingTable, report: EmbeddingReport) -> Made:
    figures: dict[str, float] = {
        "encoded": report.encoded,
        "reused_vectors": report.reused,
        "removed": report.removed,
        "set_aside": len(report.set_aside),
        "tokens": report.tokens,
        "truncated": report.truncated,
    }
    if report.items_per_second is not None:
        figures["items_per_second"] = report.items_per_second
    metadata: dict[str, object] = {
        "why": report.reason,
        "model": dg.MetadataValue.json(asdict(table.model)),
        "principal_components": picture(scatter(table), "the vectors on their first two principal components"),
    }
    if report.set_aside:
        metadata["items_set_aside"] = markdown_table(pa.Table.from_pylist([asdict(item) for item in report.set_aside]))
    return Made(table, rows=table.table.num_rows, figures=figures, metadata=metadata)
