"""Embeddings: items as vectors of real models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

import dagster as dg
import pyarrow as pa

from aura.corpus.manifest import CorpusManifest
from aura.corpus.opening import open_registered
from aura.corpus.registry import SourceRegistry
from aura.corpus.rows import Modality
from aura.embeddings.cluster import Cluster, EncoderRecipe
from aura.embeddings.incremental import Elsewhere, EmbeddingReport, embed_items
from aura.embeddings.opening import Encoders
from aura.embeddings.plots import scatter
from aura.embeddings.table import EmbeddingTable
from aura.embeddings.windows import Read
from aura.settings import Settings
from aura.tiers.catalog import Catalog
from aura.tiers.store import TieredStore
from aura_assets.asset import aura_asset
from aura_assets.checks import EMBEDDINGS
from aura_assets.metadata import markdown_table, picture
from aura_assets.op_tags import GPU_TAGS
from aura_assets.step import Made, Skipped
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
    settings of it, encode everything anew. A text beyond the model's window is encoded in overlapping windows.
    """
    return _embedded(context, "text", corpus_manifest, encoders=encoders, store=store, progress=progress)


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
    read = open_registered(context.partition_key, registry, settings.corpus).read
    return _embedded(context, "image", corpus_manifest, encoders=encoders, store=store, progress=progress, read=read)


@aura_asset(group="embeddings", kinds={"pytorch", "arrow"}, checks=EMBEDDINGS, settings=("embeddings",), wants_gpu=True)
def audio_embeddings(
    context: dg.AssetExecutionContext,
    corpus_manifest: CorpusManifest,
    *,
    encoders: dg.ResourceParam[Encoders],
    registry: dg.ResourceParam[SourceRegistry],
    settings: dg.ResourceParam[Settings],
    store: dg.ResourceParam[TieredStore],
    progress: dg.ResourceParam[Progress],
) -> Made | Skipped:
    """Unit vectors of the sounds, by a Whisper or CLAP model.

    Skipped while no weights are configured: set `AURA_EMBEDDINGS__AUDIO_MODEL` to a directory or a hub name.
    """
    read = open_registered(context.partition_key, registry, settings.corpus).read
    return _embedded(context, "audio", corpus_manifest, encoders=encoders, store=store, progress=progress, read=read)


def _embedded(
    context: dg.AssetExecutionContext,
    modality: Modality,
    manifest: CorpusManifest,
    *,
    encoders: Encoders,
    store: TieredStore,
    progress: Progress,
    read: Read | None = None,
) -> Made | Skipped:
    items = manifest.items(modality)
    if items.num_rows == 0:
        return Skipped(f"no {modality} items in this source")
    encoder = encoders.of(modality)
    if encoder is None:
        variable = f"AURA_EMBEDDINGS__{modality.upper()}_MODEL"
        return Skipped(f"no weights configured; set {variable} to a directory or a hub name")
    name, partition = f"{modality}_embeddings", context.partition_key
    table, report = embed_items(
        items,
        encoder,
        previous=Catalog(store).load_previous(EmbeddingTable, name, partition),
        read=read,
        progress=progress(f"{name}[{partition}]"),
        elsewhere=elsewhere(EncoderRecipe(encoders.settings, modality), read),
    )
    return made(table, {modality: report})


def elsewhere(recipe: EncoderRecipe, read: Read | None) -> Elsewhere | None:
    """The configured Ray cluster, with the GPUs that the steps' tag asks for; None where this process encodes."""
    address = recipe.settings.ray_address
    if address is None:
        return None
    wanted = 0 if recipe.settings.device == "cpu" else json.loads(GPU_TAGS["dagster-ray/config"])["num_gpus"]
    return Cluster(address, num_gpus=wanted).encode(recipe, read)


def made(table: EmbeddingTable, reports: Mapping[str, EmbeddingReport]) -> Made:
    """A table of embeddings with what its run did, by modality."""
    figures: dict[str, float] = {
        "encoded": sum(report.encoded for report in reports.values()),
        "reused_vectors": sum(report.reused for report in reports.values()),
        "removed": sum(report.removed for report in reports.values()),
        "set_aside": sum(len(report.set_aside) for report in reports.values()),
        "tokens": sum(report.tokens for report in reports.values()),
        "chunked": sum(report.chunked for report in reports.values()),
        "truncated": sum(report.truncated for report in reports.values()),
    }
    seconds = sum(report.seconds for report in reports.values())
    if figures["encoded"]:
        figures["items_per_second"] = figures["encoded"] / seconds
    why = {modality: report.reason for modality, report in reports.items()}
    metadata: dict[str, object] = {
        "why": "; ".join(reason if len(why) == 1 else f"{modality}: {reason}" for modality, reason in why.items()),
        "model": dg.MetadataValue.json(asdict(table.model)),
        "principal_components": picture(scatter(table), "the vectors on their first two principal components"),
    }
    set_aside = [asdict(item) for report in reports.values() for item in report.set_aside]
    if set_aside:
        metadata["items_set_aside"] = markdown_table(pa.Table.from_pylist(set_aside))
    return Made(table, rows=table.table.num_rows, figures=figures, metadata=metadata)
