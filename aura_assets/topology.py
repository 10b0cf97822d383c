"""Topology: the shape of each partition's cloud."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

import dagster as dg
import numpy as np

from aura.corpus.manifest import CorpusManifest
from aura.embeddings.table import EmbeddingTable
from aura.settings import Settings
from aura.tiers.catalog import Catalog
from aura.tiers.store import TieredStore
from aura.topology import subsamples
from aura.topology.diagrams import PersistenceDiagrams
from aura.topology.loops import loop_items, loops_of
from aura.topology.persistence import Caps, persistence
from aura.topology.plots import barcode, betti_curves, landscape_band, persistence_diagram, persistence_images
from aura.topology.vectors import ENTROPY, TopologyVectors, VectorError, VectorParameters
from aura_assets.asset import aura_asset
from aura_assets.checks import DIAGRAM_VECTORS, DIAGRAMS, LANDSCAPES, LOOPS
from aura_assets.metadata import markdown_table, picture
from aura_assets.step import ACCEPT_TAG, Made, Skipped

ACCEPTED = ", accepted at "
"""Between the source that a grid was fitted on and the time, where somebody asked for it."""

FEWEST_BARS = 20
"""Bars that end, of all dimensions together, out of which a grid for all sources is fitted."""

FORM = "2"
"""Code version of the diagrams: those of version 1 named neither filtration nor guarantee."""

SEED = 0
"""Seed of the first landmark: a constant, so that diagrams of two partitions differ only by their clouds."""


@aura_asset(
    group="topology",
    kinds={"gudhi", "arrow"},
    checks=DIAGRAMS,
    settings=("topology",),
    reusable=True,
    code_version=FORM,
)
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


@aura_asset(
    group="topology",
    kinds={"gudhi", "arrow"},
    checks=DIAGRAMS,
    settings=("topology",),
    reusable=True,
    code_version=FORM,
)
def image_embedding_diagrams(
    context: dg.AssetExecutionContext,  # noqa: ARG001
    image_embeddings: EmbeddingTable,
    settings: dg.ResourceParam[Settings],
) -> Made:
    """Persistence diagrams (H0, H1) of the image embeddings, with the same certificate as those of the texts."""
    return _diagrams(image_embeddings, settings)


@aura_asset(group="topology", kinds={"gudhi", "arrow"}, checks=LOOPS, settings=("topology",), reusable=True)
def embedding_loops(
    context: dg.AssetExecutionContext,  # noqa: ARG001
    corpus_manifest: CorpusManifest,
    text_embeddings: EmbeddingTable,
    embedding_diagrams: PersistenceDiagrams,
    settings: dg.ResourceParam[Settings],
) -> Made | Skipped:
    """The items of the longest loops (H1) among the text embeddings, in order, so that one can read what they surround.

    Vertices are rows of the embeddings. A cycle that is exact surely represents its bar.
    """
    cycles = loops_of(text_embeddings.vectors, embedding_diagrams, count=settings.topology.loops)
    if not cycles.cycles:
        return Skipped("there is no loop among the items")
    items = loop_items(cycles, text_embeddings, corpus_manifest)
    texts = [_as_it_is(text) for text in items["text"].to_pylist()]
    longest = cycles.cycles[0]
    return Made(
        cycles,
        rows=len(cycles.cycles),
        figures={
            "h1_bars": cycles.provenance.bars,
            "longest_bar": longest.death - longest.birth,
            "exact": sum(cycle.exact is True for cycle in cycles.cycles),
        },
        metadata={"loops": markdown_table(items.set_column(items.schema.get_field_index("text"), "text", [texts]))},
    )


def _as_it_is(text: str) -> str:
    """A text of a corpus as code, so that the UI draws no pictures and follows no links in it."""
    return f"`{text.replace('`', chr(39))}`" if text else ""


@aura_asset(group="topology", kinds={"arrow"}, checks=DIAGRAM_VECTORS)
def diagram_vectors(
    context: dg.AssetExecutionContext,
    embedding_diagrams: PersistenceDiagrams,
    *,
    store: dg.ResourceParam[TieredStore],
) -> Made | Skipped:
    """The diagrams as vectors of fixed length: persistence images, landscapes, silhouettes, Betti curves, entropy.

    On one grid for all sources, fitted on the first that had diagrams, so that their vectors can be compared; bars
    outside of it are counted. With the tag aura/accept=true it is fitted on this source anew; the others follow.
    """
    try:
        parameters = _fitted(context, Catalog(store), embedding_diagrams)
    except VectorError as error:
        return Skipped(str(error))
    vectors = TopologyVectors.of(embedding_diagrams, parameters)
    counts = vectors.provenance.counts
    return Made(
        vectors,
        rows=vectors.table.num_rows,
        figures={
            **{f"h{dimension}_outside": each.outside for dimension, each in enumerate(counts)},
            **{f"h{dimension}_entropy": vectors.vector(dimension, ENTROPY)[0] for dimension in range(len(counts))},
        },
        metadata={
            "fitted_on": parameters.fitted_on,
            "parameters": dg.MetadataValue.json(asdict(parameters)),
            "persistence_image": picture(persistence_images(vectors), "persistence images"),
        },
    )


def _fitted(context: dg.AssetExecutionContext, catalog: Catalog, diagrams: PersistenceDiagrams) -> VectorParameters:
    """The grid that is in use: the one that was accepted last, or the first one fitted; else one that is fitted here.

    Raises:
        VectorError: There are too few bars to fit a grid for all sources.
    """
    partition = context.partition_key
    if context.run.tags.get(ACCEPT_TAG) == "true":
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return VectorParameters.fit([diagrams], fitted_on=f"{partition}{ACCEPTED}{now}")
    others = (found.partition for found in catalog.published() if found.name == "diagram_vectors")
    loaded = (catalog.load_previous(TopologyVectors, "diagram_vectors", other) for other in others)
    in_use = [each.provenance.parameters for each in loaded if each is not None]
    fitting = [each for each in in_use if len(each.grids) == diagrams.provenance.max_dimension + 1]
    if fitting:
        accepted = [each for each in fitting if ACCEPTED in each.fitted_on]
        latest = max(accepted, key=lambda each: each.fitted_on.partition(ACCEPTED)[2], default=None)
        return latest or min(fitting, key=lambda each: each.fitted_on)
    finite = sum(int(np.isfinite(diagrams.bars(dimension)).all(axis=1).sum()) for dimension in (0, 1))
    if finite < FEWEST_BARS:
        raise VectorError(f"{finite} bars that end are too few to fit a grid for all sources, {FEWEST_BARS} are needed")
    return VectorParameters.fit([diagrams], fitted_on=partition)


@aura_asset(group="topology", kinds={"gudhi", "arrow"}, checks=LANDSCAPES, settings=("topology",), reusable=True)
def averaged_landscapes(
    context: dg.AssetExecutionContext,  # noqa: ARG001
    text_embeddings: EmbeddingTable,
    settings: dg.ResourceParam[Settings],
) -> Made | Skipped:
    """Persistence landscapes averaged over random subsamples, with a bootstrap band, whatever the number of items.

    The band holds the landscape that a subsample of this size has on average, not that of all items.
    """
    topology = settings.topology
    vectors = text_embeddings.vectors
    if len(vectors) <= topology.subsample_points:
        return Skipped(f"{len(vectors)} items are no more than a subsample has ({topology.subsample_points})")
    averaged = subsamples.averaged_landscapes(
        vectors, size=topology.subsample_points, count=topology.subsamples, seed=SEED
    )
    provenance = averaged.provenance
    return Made(
        averaged,
        rows=averaged.table.num_rows,
        figures={
            "points": provenance.points,
            "subsamples": provenance.count,
            "subsample_points": provenance.size,
            **{f"h{dimension}_half_width": width for dimension, width in enumerate(provenance.half_widths)},
        },
        metadata={
            "guarantee": provenance.guarantee,
            "landscapes": picture(landscape_band(averaged), "averaged landscapes with their band"),
        },
    )


def _diagrams(embeddings: EmbeddingTable, settings: Settings) -> Made:
    topology = settings.topology
    diagrams = persistence(
        points=embeddings.vectors,
        landmarks=topology.landmarks,
        seed=SEED,
        caps=Caps(topology.time_limit_seconds, int(topology.memory_limit)),
    )
    provenance = diagrams.provenance
    figures = {
        "points": provenance.points,
        "landmarks": provenance.landmarks,
        "covering_radius": provenance.covering_radius,
        "bottleneck_bound": provenance.bottleneck_bound,
        "h0_bars": len(diagrams.bars(0)),
        "h1_bars": len(diagrams.bars(1)),
        "h1_total_persistence": diagrams.total_persistence(1),
        "h1_entropy": diagrams.entropy(1),
        "engine_predicted_mib": provenance.predicted_bytes / 2**20,
    }
    if diagrams.measured is not None:
        figures["engine_cpu_seconds"] = sum(each.cpu_seconds for each in diagrams.runs)
        if diagrams.measured.peak_bytes:
            figures["engine_peak_mib"] = diagrams.measured.peak_bytes / 2**20
    return Made(
        diagrams,
        rows=diagrams.table.num_rows,
        figures=figures,
        metadata={
            "guarantee": provenance.guarantee.sentence,
            "engine": provenance.engine,
            "why_this_engine": provenance.reason,
            "attempts": ", ".join(f"{a.engine} of {a.landmarks} points: {a.outcome}" for a in provenance.attempts),
            "barcode": picture(barcode(diagrams), "barcode"),
            "diagram": picture(persistence_diagram(diagrams), "persistence diagram"),
            "betti": picture(betti_curves(diagrams), "Betti curves"),
        },
    )
