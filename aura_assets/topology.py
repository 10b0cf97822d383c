"""Topology: the shape of each partition's cloud."""

from __future__ import annotations

import dagster as dg

from aura.embeddings.table import EmbeddingTable
from aura.settings import Settings
from aura.topology.persistence import cloud_diagrams
from aura.topology.plots import barcode, betti_curves, persistence_diagram
from aura_assets.asset import aura_asset
from aura_assets.checks import DIAGRAMS
from aura_assets.metadata import picture
from aura_assets.step import Made

SEED = 0
"""Seed of the first landmark: a constant, so that diagrams of two partitions differ only by their clouds."""


@aura_asset(group="topology", kinds={"gudhi", "arrow"}, checks=DIAGRAMS, settings=("topology",), reusable=True)
def embedding_diagrams(
    context: dg.AssetExecutionContext,  # noqa: ARG001 - every asset function has it
    text_embeddings: EmbeddingTable,
    settings: dg.ResourceParam[Settings],
) -> Made:
    """Persistence diagrams (H0, H1) of the text embeddings.

    Landmarks are chosen by farthest-point sampling. With the covering radius delta, the diagram of the whole cloud is
    within 2 delta of this one in bottleneck distance, and a bar longer than 4 delta is certified to be there.
    """
    return _diagrams(text_embeddings, settings)


@aura_asset(group="topology", kinds={"gudhi", "arrow"}, checks=DIAGRAMS, settings=("topology",), reusable=True)
def image_embedding_diagrams(
    context: dg.AssetExecutionContext,  # noqa: ARG001
    image_embeddings: EmbeddingTable,
    settings: dg.ResourceParam[Settings],
) -> Made:
    """Persistence diagrams (H0, H1) of the image embeddings, with the same certificate as those of the texts."""
    return _diagrams(image_embeddings, settings)


def _diagrams(embeddings: EmbeddingTable, settings: Settings) -> Made:
    topology = settings.topology
    diagrams = cloud_diagrams(
        embeddings.vectors,
        landmarks=topology.landmarks,
        seed=SEED,
        time_limit_seconds=topology.time_limit_seconds,
        memory_limit_bytes=int(topology.memory_limit),
    )
    provenance = diagrams.provenance
    return Made(
        diagrams,
        rows=diagrams.table.num_rows,
        figures={
            "points": provenance.points,
            "landmarks": provenance.landmarks,
            "covering_radius": provenance.covering_radius,
            "bottleneck_bound": provenance.bottleneck_bound,
            "h0_bars": len(diagrams.bars(0)),
            "h1_bars": len(diagrams.bars(1)),
            "h1_total_persistence": diagrams.total_persistence(1),
            "h1_entropy": diagrams.entropy(1),
        },
        metadata={
            "engine": provenance.engine,
            "attempts": ", ".join(f"{a.landmarks} landmarks: {a.outcome}" for a in provenance.attempts),
            "barcode": picture(barcode(diagrams), "barcode"),
            "diagram": picture(persistence_diagram(diagrams), "persistence diagram"),
            "betti": picture(betti_curves(diagrams), "Betti curves"),
        },
    )
