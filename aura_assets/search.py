"""The index of each table of embeddings."""

from __future__ import annotations

import dagster as dg

from aura.embeddings.table import EmbeddingTable
from aura.search.index import SearchIndex, build_index
from aura.settings import Settings
from aura.tiers.catalog import Catalog
from aura.tiers.store import TieredStore
from aura_assets.asset import aura_asset
from aura_assets.checks import SEARCH_INDEX
from aura_assets.step import Made


@aura_asset(group="search", kinds={"usearch"}, checks=SEARCH_INDEX, settings=("search",), reusable=True)
def text_index(
    context: dg.AssetExecutionContext,
    text_embeddings: EmbeddingTable,
    settings: dg.ResourceParam[Settings],
    store: dg.ResourceParam[TieredStore],
) -> Made:
    """What finds the nearest texts: a comparison with all, or above `search.flat_up_to` vectors an HNSW graph."""
    return _indexed(context, "text_index", text_embeddings, settings, store)


@aura_asset(group="search", kinds={"usearch"}, checks=SEARCH_INDEX, settings=("search",), reusable=True)
def image_index(
    context: dg.AssetExecutionContext,
    image_embeddings: EmbeddingTable,
    settings: dg.ResourceParam[Settings],
    store: dg.ResourceParam[TieredStore],
) -> Made:
    """What finds the nearest images, as that of the texts does."""
    return _indexed(context, "image_index", image_embeddings, settings, store)


@aura_asset(group="search", kinds={"usearch"}, checks=SEARCH_INDEX, settings=("search",), reusable=True)
def audio_index(
    context: dg.AssetExecutionContext,
    audio_embeddings: EmbeddingTable,
    settings: dg.ResourceParam[Settings],
    store: dg.ResourceParam[TieredStore],
) -> Made:
    """What finds the nearest sounds, as that of the texts does."""
    return _indexed(context, "audio_index", audio_embeddings, settings, store)


@aura_asset(group="search", kinds={"usearch"}, checks=SEARCH_INDEX, settings=("search",), reusable=True)
def joint_index(
    context: dg.AssetExecutionContext,
    joint_embeddings: EmbeddingTable,
    settings: dg.ResourceParam[Settings],
    store: dg.ResourceParam[TieredStore],
) -> Made:
    """What finds texts, images and sounds by each other, in the space that they share; one index per modality."""
    return _indexed(context, "joint_index", joint_embeddings, settings, store)


@aura_asset(group="search", kinds={"usearch"}, checks=SEARCH_INDEX, settings=("search",), reusable=True)
def fused_index(
    context: dg.AssetExecutionContext,
    fused_embeddings: EmbeddingTable,
    settings: dg.ResourceParam[Settings],
    store: dg.ResourceParam[TieredStore],
) -> Made:
    """What finds things that have several modalities."""
    return _indexed(context, "fused_index", fused_embeddings, settings, store)


def _indexed(
    context: dg.AssetExecutionContext, name: str, table: EmbeddingTable, settings: Settings, store: TieredStore
) -> Made:
    previous = Catalog(store).load_previous(SearchIndex, name, context.partition_key)
    index = build_index(table, previous, flat_up_to=settings.search.flat_up_to)
    parts = index.card.parts
    figures = {
        f"{figure}_{modality}": value
        for modality, part in parts.items()
        for figure, value in (
            ("vectors", part.vectors),
            ("added", part.added),
            ("self_retrieval", part.self_retrieval),
            ("recall_at_10", part.recall),
        )
    }
    ways = ", ".join(f"{modality}: {part.way}" for modality, part in parts.items())
    return Made(index, rows=table.table.num_rows, figures=figures, metadata={"way": ways})
