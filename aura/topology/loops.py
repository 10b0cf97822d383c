"""The loops of a cloud whose diagrams are there: cycles of rows of the cloud.

Belongs here: from diagrams back to the points that they were made of. Does not: which cycle stands for a bar
(`aura.topology.cycles`).
"""

from __future__ import annotations

import textwrap

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aura.corpus.manifest import CorpusManifest
from aura.embeddings.table import EmbeddingTable
from aura.topology.cloud import checked_cloud
from aura.topology.cycles import CycleError, RepresentativeCycles, representative_cycles
from aura.topology.diagrams import VIETORIS_RIPS, PersistenceDiagrams
from aura.topology.landmarks import farthest_point_landmarks

METRIC = "euclidean"

TEXT_CHARACTERS = 100
"""Of the text of an item in the list of a loop."""

ITEMS = pa.schema(
    [
        ("loop", pa.int64()),
        ("bar", pa.string()),
        ("label", pa.string()),
        ("text", pa.string()),
        ("item", pa.string()),
    ]
)
"""One row per item of a loop, in order."""


def loops_of(points: NDArray[np.floating], diagrams: PersistenceDiagrams, *, count: int) -> RepresentativeCycles:
    """Find cycles for the longest H1 bars of a cloud's diagrams.

    The landmarks of the diagrams are chosen again, which gives the same ones; the bars are not computed again.

    Args:
        points: float32 or float64 [n, d], the cloud that the diagrams are of.
        diagrams: Its Vietoris-Rips diagrams in Euclidean distance, with H1; not sparse ones, whose bars are not those
            of the distances, nor ones with loops that a threshold left open, of which it is not known what fills them.
        count: How many bars, longest first.

    Returns:
        Cycles whose vertices are rows of `points`.

    Raises:
        CloudError: The cloud is empty, misshapen or not finite.
        CycleError: The diagrams are of another filtration, metric or cloud, sparse, or cut where loops are open.
    """
    from scipy.spatial.distance import pdist, squareform

    provenance = diagrams.provenance
    if (provenance.filtration, provenance.metric) != (VIETORIS_RIPS, METRIC) or provenance.max_dimension < 1:
        raise CycleError(
            f"loops are read off {VIETORIS_RIPS} diagrams with H1 in {METRIC} distance, got {provenance.filtration} up "
            f"to H{provenance.max_dimension} in {provenance.metric} distance"
        )
    if provenance.epsilon is not None:
        raise CycleError(
            f"the diagrams are sparse (epsilon {provenance.epsilon:g}), so no edge of the cloud bears their bars:"
            " compute them with another engine"
        )
    if provenance.threshold is not None and np.isinf(diagrams.bars(1)[:, 1]).any():
        raise CycleError(
            f"the diagrams were cut at the threshold {provenance.threshold:g}, which leaves loops open: compute them"
            " without a threshold, or with a higher one"
        )
    cloud = checked_cloud(points)
    rows = farthest_point_landmarks(cloud, provenance.landmarks, seed=provenance.seed).indices
    if len(cloud) != provenance.points or len(rows) != provenance.landmarks:
        raise CycleError(
            f"the diagrams are of {provenance.landmarks} landmarks of {provenance.points} points, the cloud gives "
            f"{len(rows)} of {len(cloud)}: pass the cloud that they were computed of"
        )
    distances = squareform(pdist(cloud[rows])) if len(rows) > 1 else np.zeros((1, 1))
    bars = np.concatenate(
        [np.column_stack((np.full(len(each), k), each)) for k in (0, 1) for each in (diagrams.bars(k),)]
    )
    return representative_cycles(distances, count=count, metric=METRIC, rows=rows, engine=lambda *_: bars)


def loop_items(cycles: RepresentativeCycles, embeddings: EmbeddingTable, manifest: CorpusManifest) -> pa.Table:
    """The items of each loop in order, so that one can read what it surrounds.

    Args:
        cycles: Their vertices are rows of the embeddings.
        embeddings: What the cycles were found in.
        manifest: Where the texts are.

    Returns:
        Columns as in `ITEMS`: number of the loop from 1, its bar, and label, beginning of the text and URI of the item.
    """
    texts = manifest.items("text")
    text_of = dict(zip(texts["item_id"].to_pylist(), texts["text"].to_pylist(), strict=True))
    rows = [
        {
            "loop": number,
            "bar": f"{cycle.birth:.3g} to {cycle.death:.3g}",
            "label": item["label"] or "",
            "text": textwrap.shorten(text_of.get(item["item_id"], ""), TEXT_CHARACTERS, placeholder=" ..."),
            "item": item["uri"],
        }
        for number, cycle in enumerate(cycles.cycles, start=1)
        for item in embeddings.table.take(list(cycle.vertices)).to_pylist()
    ]
    return pa.Table.from_pylist(rows, schema=ITEMS)
