"""Drift of embeddings: the reference's vectors as a stored value, and the decision about those that are there now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from aura.tiers.values import Part
from aura.topology.cloud import CloudError, checked_cloud
from aura.topology.drift.decision import decide_by_shape, decide_by_vectors, diagram_distances, too_few
from aura.topology.drift.report import DriftReport, Outcome, Side, Unavailable
from aura.topology.drift.samples import BlockPlan, plan_blocks, shuffled, two_samples
from aura.topology.drift.settings import DriftSettings

METADATA_KEY = b"aura"
PART = "reference"
KEPT = 5000
"""Items that a reference keeps unless told otherwise: 7.7 MB of 384-dimensional vectors, twice what one reads."""

CHUNK = 100_000
"""Vectors that are looked at in one go."""

LARGEST = float(np.finfo(np.float32).max)
"""Largest coordinate that a reference can keep."""


class DriftReferenceError(ValueError):
    """A reference is malformed; the message says what it lacks."""


@dataclass(frozen=True)
class DriftReference:
    """What later partitions are compared with, until somebody accepts another one.

    Attributes:
        ids: The items that are kept, a random sample where there were more.
        vectors: float32 [n, d], finite, one row for each id.
        side: Model, fingerprint, when the reference was taken, and how many items there were.
        seed: Seed of the sample.
    """

    ids: tuple[str, ...]
    vectors: NDArray[np.float32]
    side: Side
    seed: int

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.vectors.dtype != np.float32 or len(self.vectors) != len(self.ids):
            raise DriftReferenceError(
                f"a reference of {len(self.ids)} items has vectors {self.vectors.dtype} {self.vectors.shape}:"
                " expected one float32 row for each id"
            )
        if not np.isfinite(self.vectors).all():
            row = int(np.argmin(np.isfinite(self.vectors).all(axis=1)))
            raise DriftReferenceError(
                f"the reference's vector of {self.ids[row]!r} in row {row} is not finite: take the reference again from"
                " vectors that float32 can hold"
            )
        if len(self.ids) > self.side.items:
            raise DriftReferenceError(f"a reference keeps {len(self.ids)} of {self.side.items} items")

    @classmethod
    def take(
        cls,
        ids: Sequence[str],
        vectors: NDArray[np.floating],
        *,
        model: str,
        fingerprint: str,
        made_at: datetime,
        most: int = KEPT,
        seed: int = 0,
    ) -> Self:
        """Take the current items as a reference.

        Args:
            ids: Unique ids.
            vectors: float32 or float64 [n, d], n >= 1, finite; kept as float32, so up to 3.4e38.
            model: Name of the model.
            fingerprint: Digest of everything that decides the vectors.
            made_at: Now.
            most: Most items to keep; of more, a random sample that depends on ids and seed alone.
            seed: Seed of the sample.

        Raises:
            CloudError: The vectors are empty, misshapen, or not finite in float32.
            DriftReferenceError: Ids and vectors do not match.
        """
        _check_vectors(ids, vectors)
        rows = np.sort(shuffled(ids, seed=seed, purpose="keep")[:most])
        return cls(
            ids=tuple(ids[row] for row in rows),
            vectors=vectors[rows].astype(np.float32),
            side=Side(source=model, fingerprint=fingerprint, made_at=made_at, items=len(ids)),
            seed=seed,
        )

    def to_parts(self) -> Mapping[str, Part]:
        """Take the reference apart: one Arrow table of ids and vectors, the rest as JSON in its metadata."""
        dimension = self.vectors.shape[1]
        flat = pa.array(np.ascontiguousarray(self.vectors).reshape(-1))
        columns = [pa.array(self.ids, pa.string()), pa.FixedSizeListArray.from_arrays(flat, dimension)]
        metadata = {METADATA_KEY: _NOTE.dump_json(_Note(self.side, self.seed))}
        return {PART: pa.Table.from_arrays(columns, schema=_schema(dimension).with_metadata(metadata))}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Part]) -> Self:
        """Put a reference together from what `to_parts` gave.

        Raises:
            DriftReferenceError: The part is missing or is no table, or its schema or metadata are malformed.
        """
        table = parts.get(PART)
        metadata = (table.schema.metadata or {}).get(METADATA_KEY) if isinstance(table, pa.Table) else None
        if not isinstance(table, pa.Table) or metadata is None:
            raise DriftReferenceError(f"a reference is kept as one Arrow table {PART!r} with metadata {METADATA_KEY!r}")
        kind = table.schema.field("vector").type if "vector" in table.schema.names else None
        if not isinstance(kind, pa.FixedSizeListType) or not table.schema.equals(_schema(kind.list_size)):
            raise DriftReferenceError(f"a reference has the columns id and vector, got\n{table.schema}")
        try:
            note = _NOTE.validate_json(metadata)
        except ValidationError as error:
            raise DriftReferenceError(f"the table {PART!r} has malformed metadata: {error}") from error
        flat = table["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        vectors = flat.reshape(table.num_rows, kind.list_size)
        return cls(ids=tuple(table["id"].to_pylist()), vectors=vectors, side=note.side, seed=note.seed)


def rounded(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Round vectors as a reference rounds those that it keeps, so that this alone makes no difference.

    Args:
        vectors: float32 or float64 [n, d].

    Raises:
        CloudError: A coordinate is not finite in float32.
    """
    with np.errstate(over="ignore"):
        kept = vectors.astype(np.float32)
    finite = np.isfinite(kept)
    if not finite.all():
        row, column = (int(each) for each in np.argwhere(~finite)[0])
        raise CloudError(
            f"row {row} of the cloud holds the coordinate {vectors[row, column]}, expected values up to"
            f" {LARGEST:.2g}: references are kept as float32, divide all vectors by one number"
        )
    return kept.astype(np.float64)


def embedding_drift(
    reference: DriftReference,
    ids: Sequence[str],
    vectors: NDArray[np.floating],
    *,
    model: str,
    fingerprint: str,
    made_at: datetime | None = None,
    settings: DriftSettings | None = None,
) -> DriftReport:
    """Decide whether the current vectors come from the distribution that the reference came from.

    Items that both hold are dealt out in halves, so that the samples are independent (`samples.two_samples`). The
    topological test compares the persistence diagrams of disjoint random blocks, so it sees shape up to the size of a
    block and nothing that an isometry changes. The plain test compares the vectors. Both take items to be independent
    of each other: of documents that are cut into pieces, hand over one piece each.

    The decision is deterministic. Repeated on a corpus that hardly changes it hardly changes either, so its false
    alarms come in runs: the budget is a probability for one decision, not a rate in days.

    Args:
        reference: What to compare with.
        ids: Unique ids of the current items.
        vectors: float32 or float64 [k, d], finite, one row for each id; compared as float32, as the reference is kept.
        model: Name of the model that made the vectors.
        fingerprint: Digest of everything that decides them.
        made_at: When they were made.
        settings: How to decide; None: the defaults.

    Raises:
        CloudError: The vectors are empty, misshapen, or not finite in float32.
        DriftReferenceError: Ids and vectors do not match.
        SampleError: An id occurs twice.
    """
    chosen = settings or DriftSettings()
    _check_vectors(ids, vectors)
    dealt = two_samples(reference.ids, ids, seed=chosen.seed)
    plan = plan_blocks(
        len(dealt.reference),
        len(dealt.current),
        smallest=chosen.smallest_block,
        largest=chosen.largest_block,
        wanted=chosen.blocks,
        most=chosen.most_blocks,
    )
    read = max(chosen.plain_items, plan.size * chosen.most_blocks)
    before = reference.vectors[dealt.reference[:read]].astype(np.float64)
    now = rounded(vectors[dealt.current[:read]])
    return DriftReport(
        kind="embedding",
        reference=reference.side,
        current=Side(source=model, fingerprint=fingerprint, made_at=made_at, items=len(ids)),
        shared=dealt.shared,
        block_size=plan.size,
        neighbours_alike=None,
        settings=chosen,
        topology=_by_topology(before, now, plan, chosen),
        plain=_by_vectors(before[: chosen.plain_items], now[: chosen.plain_items], chosen),
    )


def _by_topology(
    before: NDArray[np.float64], now: NDArray[np.float64], plan: BlockPlan, settings: DriftSettings
) -> Outcome:
    unavailable = too_few(plan.reference, plan.current, settings, f"blocks of {plan.size} items")
    if unavailable is not None:
        return unavailable
    blocks = [before[number * plan.size :][: plan.size] for number in range(plan.reference)]
    blocks += [now[number * plan.size :][: plan.size] for number in range(plan.current)]
    names = [f"H{dimension}" for dimension in range(settings.max_dimension + 1)]
    diagrams = [_finite_bars(block, settings.max_dimension) for block in blocks]
    distances = diagram_distances(list(zip(*diagrams, strict=True)), settings)
    return decide_by_shape(distances, plan.reference, names, f"random blocks of {plan.size} items", settings)


def _finite_bars(points: NDArray[np.float64], max_dimension: int) -> list[NDArray[np.float64]]:
    """Bars [m, 2] of each dimension; the one that never ends, the same in every connected cloud, is left out."""
    # 0.5 s of CPU, which loading the asset definitions must not pay.
    from scipy.spatial.distance import pdist, squareform

    from aura.topology.engine import rips_bars

    bars = rips_bars(squareform(pdist(points)), max_dimension)
    bars = bars[np.isfinite(bars[:, 2])]
    return [bars[bars[:, 0] == dimension, 1:] for dimension in range(max_dimension + 1)]


def _by_vectors(before: NDArray[np.float64], now: NDArray[np.float64], settings: DriftSettings) -> Outcome:
    if before.shape[1] != now.shape[1]:
        return Unavailable(
            f"the reference's vectors have {before.shape[1]} coordinates and the current ones {now.shape[1]}:"
            " vectors of different spaces have no distance"
        )
    of_what = f"the vectors of {len(before)} and {len(now)} items"
    return decide_by_vectors(before, now, of_what, settings)


def _check_vectors(ids: Sequence[str], vectors: NDArray[np.floating]) -> None:
    """Refuse what is no cloud, without a copy of all of it in float64: there may be millions."""
    checked_cloud(vectors[:1])
    if len(vectors) != len(ids):
        raise DriftReferenceError(f"{len(ids)} ids and {len(vectors)} vectors: expected one vector for each id")
    for start in range(0, len(vectors), CHUNK):
        if not float(np.abs(vectors[start : start + CHUNK]).max()) <= LARGEST:
            rounded(checked_cloud(vectors))


@dataclass(frozen=True)
class _Note:
    side: Side
    seed: int


_NOTE = TypeAdapter(_Note)


def _schema(dimension: int) -> pa.Schema:
    return pa.schema([("id", pa.string()), ("vector", pa.list_(pa.float32(), dimension))])
