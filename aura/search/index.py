"""The search index of a table of embeddings: which items are nearest to a vector.

Belongs here: flat or graph, keeping it up to date, how well it finds. Does not: the graph itself (`aura.search.graph`),
scores (`aura.search.neighbours`) and where the query's vector comes from (`aura.search.spaces`).

Up to `FLAT_UP_TO` vectors all of them are compared, which is exact. Beyond that a graph names candidates, which are
scored exactly. Every graph has strays, to which nothing leads: they are candidates of every query. A graph that does
not find what a comparison with all vectors finds (`MIN_RECALL`) is not used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from aura.embeddings.encoder import Vectors
from aura.embeddings.table import EmbeddingTable
from aura.search import graph
from aura.search.errors import SearchIndexError
from aura.search.neighbours import Neighbours, Vectored
from aura.tiers.values import Part

if TYPE_CHECKING:
    from usearch.index import Index

Way = Literal["flat", "graph"]

FLAT_UP_TO = 20_000
"""Vectors that are compared one by one: 20,000 of 384 dimensions are 31 MB, read in a few milliseconds."""

NEIGHBOURS = 10
"""Recall is of this many nearest neighbours."""

MIN_RECALL = 0.98

SAMPLE = 1000
"""Vectors that are searched for to see how well is found."""

EXPANSIONS = (128, 256, 512)
"""Candidates that a graph looks at: the first of these with which it finds well enough."""

SPARE = 2
"""Candidates per wanted neighbour, since some items of the graph may be gone."""

MAX_STRAYS = 0.05
"""Share of the vectors that may be strays before a comparison with all of them is the better way."""

EQUAL = 1e-6
"""Cosines nearer to each other than this are those of equally near vectors."""

_CARD = "card"
_GRAPH = "graph-"
_STRAYS = "strays-"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class PartCard:
    """How the items of one modality are indexed.

    Attributes:
        way: "flat" (all are compared) or "graph".
        vectors: How many.
        expansion: Candidates that the graph looks at; 0 where all are compared.
        strays: Vectors that the graph does not lead to, which are compared with every query.
        added: Vectors that had to be added: all of them where nothing could be taken over.
        self_retrieval: Share of sampled vectors that find themselves, or one equal to them, first.
        recall: Share of the sampled vectors' exact nearest neighbours (`NEIGHBOURS`) that are found; in a shared space
            the smaller of two shares, that of vectors of the same modality and that of vectors of the others.
    """

    way: Way
    vectors: int
    expansion: int
    strays: int
    added: int
    self_retrieval: float
    recall: float


@dataclass(frozen=True)
class IndexCard:
    """What an index is of.

    Attributes:
        content: Digest of the items' identifiers and modalities, of their vectors and their model.
        model: Fingerprint of the model, and its arithmetic.
        parts: By modality.
    """

    content: str
    model: str
    parts: Mapping[str, PartCard]


@dataclass(frozen=True, eq=False)
class Graph:
    """A graph, and what it does not lead to.

    Attributes:
        content: The graph as bytes.
        strays: [s] uint64 keys.
    """

    content: bytes
    strays: graph.Keys


@dataclass(frozen=True, eq=False)
class SearchIndex:
    """What finds the nearest rows of the table that it was made of.

    Attributes:
        card: What it is of, and how well it finds.
        graphs: By modality; none where all vectors are compared.

    Raises:
        SearchIndexError: the card and the graphs do not belong together.
    """

    card: IndexCard
    graphs: Mapping[str, Graph]

    def __post_init__(self) -> None:
        wanted = sorted(name for name, part in self.card.parts.items() if part.way == "graph")
        if wanted != sorted(self.graphs):
            raise SearchIndexError(f"the card says graphs of {wanted}, there are {sorted(self.graphs)}; index again")

    def to_parts(self) -> Mapping[str, Part]:
        """The card as JSON, and each graph as a table of chunks, so that it is stored in blocks."""
        card = json.dumps(asdict(self.card), sort_keys=True).encode()
        graphs = {_GRAPH + name: _chunks(each.content) for name, each in self.graphs.items()}
        return {_CARD: card, **graphs, **{_STRAYS + name: {"keys": each.strays} for name, each in self.graphs.items()}}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Part]) -> Self:
        """Put an index together again; raises `SearchIndexError` if the parts do not hold one."""
        card = parts.get(_CARD)
        if not isinstance(card, bytes):
            raise SearchIndexError(f"an index has a part {_CARD!r}, got {sorted(parts)}; materialize the index again")
        try:
            fields = json.loads(card)
            described = {name: PartCard(**part) for name, part in fields["parts"].items()}
            loaded = IndexCard(fields["content"], fields["model"], described)
        except (KeyError, TypeError, ValueError) as error:
            raise SearchIndexError(f"the card describes no index ({error}); materialize the index again") from error
        graphs = {
            name.removeprefix(_GRAPH): _graph_of(part, parts.get(name.replace(_GRAPH, _STRAYS, 1)))
            for name, part in parts.items()
            if name.startswith(_GRAPH)
        }
        return cls(loaded, graphs)


@dataclass(frozen=True, eq=False)
class _Walk:
    """A graph in memory, what it does not lead to, and how far it looks around."""

    graph: Index
    strays: graph.Keys
    expansion: int

    def search(self, part: Vectored, queries: Vectors, count: int) -> Neighbours:
        near = graph.candidates(self.graph, queries, SPARE * count, self.expansion)
        found = part.scored(queries, [np.union1d(keys, self.strays) for keys in near], count)
        # Where what is gone lay thick, it has taken the places of what is still there.
        short = np.flatnonzero((found.rows[:, : len(part.rows)] < 0).any(axis=1))
        if len(short):
            all_compared = part.compared(queries[short], count)
            found.rows[short], found.scores[short] = all_compared.rows, all_compared.scores
        return found


class OpenIndex:
    """An index beside its table, ready to be searched.

    Where the index is that of an earlier table, which happens between two materializations, all vectors are compared.
    """

    def __init__(self, table: EmbeddingTable, index: SearchIndex | None) -> None:
        self.table = table
        fits = index is not None and index.card.content == _content(table)
        self.index = index
        self._used = index if fits else None
        self._parts: dict[str, Vectored] = {}
        self._walks: dict[str, _Walk] = {}

    def count(self, modality: str) -> int:
        """How many items of a modality there are."""
        return len(self._part(modality).rows)

    def search(self, queries: Vectors, modality: str, count: int = NEIGHBOURS) -> Neighbours:
        """Find the nearest items of one modality.

        Args:
            queries: [q, d] float32 of length 1, made by the table's model.
            modality: Modality of the items that are looked for.
            count: How many for each query.

        Raises:
            SearchIndexError: the queries have another dimension than the table, or count is less than 1.
        """
        dimension = self.table.model.dimension
        if queries.ndim != 2 or queries.shape[1] != dimension:
            raise SearchIndexError(f"queries of shape {queries.shape} do not fit vectors of {dimension} dimensions")
        if count < 1:
            raise SearchIndexError(f"the number of neighbours is at least 1, got {count}")
        part = self._part(modality)
        count = min(count, max(len(part.rows), 1))
        if self._used is None or modality not in self._used.graphs:
            return part.compared(queries, count)
        if modality not in self._walks:
            stored = self._used.graphs[modality]
            expansion = self._used.card.parts[modality].expansion
            self._walks[modality] = _Walk(graph.restore(stored.content), stored.strays, expansion)
        return self._walks[modality].search(part, queries, count)

    def _part(self, modality: str) -> Vectored:
        if modality not in self._parts:
            self._parts[modality] = Vectored.of(self.table, modality)
        return self._parts[modality]


def build_index(
    table: EmbeddingTable, previous: SearchIndex | None = None, *, flat_up_to: int = FLAT_UP_TO
) -> SearchIndex:
    """Index a table.

    Args:
        table: The vectors, of length 1.
        previous: Index of an earlier table; its graphs are extended where the model is the same.
        flat_up_to: Vectors of a modality up to which all are compared.
    """
    model = f"{table.model.fingerprint} {table.model.dtype}"
    before = previous.graphs if previous is not None and previous.card.model == model else {}
    cards: dict[str, PartCard] = {}
    graphs: dict[str, Graph] = {}
    divided = {name: Vectored.of(table, name) for name in sorted(pc.unique(table.table["modality"]).to_pylist())}
    for modality, part in divided.items():
        found = None
        if len(part.rows) > flat_up_to:
            others = [_sample(other) for name, other in divided.items() if name != modality]
            found = _graph(part, others, before.get(modality))
        if found is None:
            own = _sample(part)
            at_once = part.compared(own, NEIGHBOURS)
            self_retrieval, recall = _self_retrieval(own, at_once), _recall(part, own, at_once)
            cards[modality] = PartCard("flat", len(part.rows), 0, 0, len(part.rows), self_retrieval, recall)
        else:
            cards[modality], graphs[modality] = found
    return SearchIndex(IndexCard(_content(table), model, cards), graphs)


def _graph(part: Vectored, others: Sequence[Vectors], before: Graph | None) -> tuple[PartCard, Graph] | None:
    """The earlier graph extended, else a new one; None if neither finds well enough, which is rare.

    Args:
        part: The vectors.
        others: Sampled vectors of each other modality, which may be queries too and lie elsewhere in the space.
        before: The earlier graph.
    """
    if len(np.unique(part.keys)) < len(part.keys):
        return None
    extended = None if before is None else graph.extend(before.content, part.keys, part.vectors)
    if before is not None and extended is not None:
        found = _measured(part, others, *extended, before.strays)
        if found is not None:
            return found
    everything = np.arange(len(part.keys))
    return _measured(part, others, graph.build(part.keys, part.vectors), everything, np.empty(0, np.uint64))


def _measured(
    part: Vectored, others: Sequence[Vectors], opened: Index, added: NDArray[np.int64], strays: graph.Keys
) -> tuple[PartCard, Graph] | None:
    """What was saved, searched as a reader will; earlier strays stay, and those among what was added join them."""
    content = graph.save(opened)
    restored = graph.restore(content)
    own = _sample(part)
    for expansion in EXPANSIONS:
        new = graph.missed(restored, part.keys[added], part.vectors[added], expansion)
        strays_now = np.union1d(strays, new).astype(np.uint64)
        if len(strays_now) > MAX_STRAYS * len(part.keys):
            continue
        walk = _Walk(restored, strays_now, expansion)
        self_retrieval = _self_retrieval(own, walk.search(part, own, NEIGHBOURS))
        recall = min(_recall(part, queries, walk.search(part, queries, NEIGHBOURS)) for queries in (own, *others))
        if self_retrieval == 1 and recall >= MIN_RECALL:
            card = PartCard("graph", len(part.rows), expansion, len(strays_now), len(added), self_retrieval, recall)
            return card, Graph(content, strays_now)
    return None


def _sample(part: Vectored) -> Vectors:
    return part.vectors[_sampled(part)]


def _sampled(part: Vectored) -> list[int]:
    count = len(part.rows)
    return sorted(set(np.linspace(0, count - 1, min(count, SAMPLE)).round().astype(int).tolist()))


def _self_retrieval(queries: Vectors, found: Neighbours) -> float:
    """Share of the queries, which are among what is searched, that find themselves first."""
    own = np.einsum("nd,nd->n", queries, queries)
    return float((found.scores[:, 0] >= own - EQUAL).mean())


def _recall(part: Vectored, queries: Vectors, found: Neighbours) -> float:
    """Share of the queries' exact nearest neighbours that were found."""
    exact = part.compared(queries, NEIGHBOURS).scores
    there = np.isfinite(exact)
    worst = np.where(there, exact, np.inf).min(axis=1, keepdims=True)
    hits = (found.scores >= worst - EQUAL) & there
    return float(hits.sum() / there.sum())


def _content(table: EmbeddingTable) -> str:
    digest = hashlib.blake2b(f"{table.model.fingerprint} {table.model.dtype}".encode(), digest_size=16)
    for name in ("item_id", "modality"):
        for text in table.table[name].to_pylist():
            digest.update(text.encode() + b"\0")
    digest.update(xxhash.xxh3_128_digest(table.vectors.data))
    return digest.hexdigest()


def _graph_of(chunks: Part, strays: Part | None) -> Graph:
    if not isinstance(chunks, pa.Table) or not isinstance(strays, Mapping):
        raise SearchIndexError("a graph of the index has lost its chunks or its strays; materialize the index again")
    return Graph(b"".join(chunks["bytes"].to_pylist()), strays["keys"])


def _chunks(content: bytes) -> pa.Table:
    parts = [content[start : start + _CHUNK_BYTES] for start in range(0, len(content), _CHUNK_BYTES)]
    return pa.table({"bytes": pa.array(parts, pa.large_binary())})
