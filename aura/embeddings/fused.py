"""One vector per thing: the items of a group become one row, whatever modalities they are of.

Belongs here: which items make a thing, and its row. Does not: how vectors are put together
(`aura.embeddings.joint.fusion`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aura.corpus.manifest import OK, CorpusManifest
from aura.corpus.rows import content_id
from aura.embeddings.encoder import Vectors
from aura.embeddings.joint.fusion import fuse
from aura.embeddings.table import EmbeddingTable

FUSED = "fused"
"""Modality of a fused row."""


@dataclass(frozen=True)
class FusionCounts:
    """What was fused.

    Attributes:
        items: Items that went into the vectors.
        incomplete: Things that lack a modality which another one has.
        without_vector: Groups of which no item has a vector.
        repeated: Groups of the same content as an earlier one, which stands for them.
    """

    items: int
    incomplete: int
    without_vector: int
    repeated: int


@dataclass(frozen=True)
class _Thing:
    """A group: its items' identifiers, their rows in the joint table by modality, and the first label."""

    name: str
    ids: Sequence[str]
    rows: dict[str, list[int]]
    label: str | None


def fuse_groups(manifest: CorpusManifest, joint: EmbeddingTable) -> tuple[EmbeddingTable, FusionCounts] | None:
    """Fuse the items of each group.

    The items of one modality of a group, as the frames of a video, count together as much as one of another modality.

    Args:
        manifest: Which items belong together.
        joint: Vectors of the items in one space.

    Returns:
        One row per group in the order of the manifest, and the counts; None where there are no groups. Of a row,
        item_id is a digest of its items', uri the group's name, label that of its first item that has one, and
        sublabel says which modalities went in.
    """
    groups = _groups(manifest, joint)
    if not groups:
        return None
    things = list({_digest(thing): thing for thing in reversed(groups) if thing.rows}.values())[::-1]
    modalities = sorted({modality for thing in things for modality in thing.rows})
    by_modality = {modality: _means(joint.vectors, things, modality) for modality in modalities}
    vectors = fuse(by_modality) if things else np.empty((0, joint.model.dimension), np.float32)
    described = [
        {
            "item_id": _digest(thing),
            "uri": thing.name,
            "modality": FUSED,
            "label": thing.label,
            "sublabel": " and ".join(sorted(thing.rows)),
        }
        for thing in things
    ]
    columns = ("item_id", "uri", "modality", "label", "sublabel")
    rows = pa.Table.from_pylist(described, schema=pa.schema([(name, pa.string()) for name in columns]))
    without = sum(not thing.rows for thing in groups)
    return EmbeddingTable.build(rows, vectors, joint.model), FusionCounts(
        items=sum(len(rows) for thing in things for rows in thing.rows.values()),
        incomplete=sum(len(thing.rows) < len(modalities) for thing in things),
        without_vector=without,
        repeated=len(groups) - without - len(things),
    )


def _groups(manifest: CorpusManifest, joint: EmbeddingTable) -> list[_Thing]:
    row_of = {item_id: row for row, item_id in enumerate(joint.table["item_id"].to_pylist())}
    table = manifest.table
    members = table.filter(pc.and_(pc.equal(table["status"], OK), pc.is_valid(table["group"])))
    by_name: dict[str, list[dict[str, str | None]]] = {}
    for member in members.select(["group", "item_id", "modality", "label"]).to_pylist():
        by_name.setdefault(member["group"], []).append(member)
    things = []
    for name, own in by_name.items():
        rows: dict[str, list[int]] = {}
        for member in own:
            if member["item_id"] in row_of:
                rows.setdefault(str(member["modality"]), []).append(row_of[member["item_id"]])
        label = next((member["label"] for member in own if member["label"] is not None), None)
        things.append(_Thing(name, [str(member["item_id"]) for member in own], rows, label))
    return things


def _digest(thing: _Thing) -> str:
    return content_id("\n".join(sorted(thing.ids)).encode())


def _means(vectors: Vectors, things: Sequence[_Thing], modality: str) -> Vectors:
    """The direction of the mean of each thing's vectors of a modality [n, d]; NaN where it has none."""
    means = np.full((len(things), vectors.shape[1]), np.nan, np.float32)
    for number, thing in enumerate(things):
        rows = thing.rows.get(modality)
        if rows:
            total = vectors[rows].sum(axis=0)
            norm = np.linalg.norm(total)
            means[number] = total / norm if norm > 0 else vectors[rows[0]]
    return means
