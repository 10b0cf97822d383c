"""From a question to the nearest items of what is published.

Belongs here: which table and model a question is asked of, and what is kept in memory between questions. Does not: how
the nearest are found (`aura.search.index`) and how they are shown (`aura.search.preview`).

A question that looks for items like itself goes to the embeddings of its modality; every other one, and one whose
modality has no embeddings of its own, goes to the joint embeddings, where texts, images and sounds are in one space.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aura.corpus.manifest import CorpusManifest
from aura.embeddings.encoder import Encoder, Vectors
from aura.embeddings.opening import Encoders
from aura.embeddings.spaces import PublishedSpace
from aura.embeddings.table import EmbeddingTable
from aura.search.errors import SearchError
from aura.search.index import NEIGHBOURS, OpenIndex, SearchIndex
from aura.search.places import WITHIN, Within
from aura.search.query import Query
from aura.tiers.catalog import Catalog
from aura.tiers.published import Published
from aura.tiers.values import StoredValue

OWN: Mapping[str, str] = {"text": "text_embeddings", "image": "image_embeddings", "audio": "audio_embeddings"}
JOINT = "joint_embeddings"
FUSED = "fused_embeddings"
SPACE = "joint_model"

KEPT_BYTES = 1 << 30
"""Encoded bytes of the values that stay in memory; those that the latest question needed stay at any size."""

Value = TypeVar("Value", bound=StoredValue)


def index_name(table: str) -> str:
    """Name of the index of a table of embeddings."""
    return table.replace("_embeddings", "_index")


@dataclass(frozen=True)
class Hit:
    """An item that was found.

    Attributes:
        score: Cosine between the query's vector and the item's.
        source: Name of the source.
        uri: Of the item; of a fused one the name of its group.
        item_id: Digest of its content.
        modality: "text", "image", "audio" or "fused".
        label: Label of the item, if it has one.
    """

    score: float
    source: str
    uri: str
    item_id: str
    modality: str
    label: str | None


@dataclass(frozen=True)
class Answer:
    """What was found.

    Attributes:
        query: What was asked.
        hits: The nearest first.
        model: Name of the model in whose space was searched.
        searched: Items that the query could have found.
    """

    query: Query
    hits: tuple[Hit, ...]
    model: str
    searched: int


class Searcher:
    """Answers questions about what is published. Thread-safe.

    Values stay in memory until others are published in their place, nothing is, or there are too many of them.
    """

    def __init__(self, encoders: Encoders, kept_bytes: int = KEPT_BYTES) -> None:
        """Nothing is loaded yet.

        Args:
            encoders: The models.
            kept_bytes: Encoded bytes of the values that stay in memory; those of the latest question always do.
        """
        self._encoders = encoders
        self._kept_bytes = kept_bytes
        self._lock = threading.Lock()
        self._values: OrderedDict[tuple[str, str], tuple[Published, StoredValue]] = OrderedDict()
        self._indexes: dict[tuple[str, str], OpenIndex] = {}

    def search(
        self,
        catalog: Catalog,
        query: Query,
        *,
        within: Within | None = None,
        source: str | None = None,
        count: int = NEIGHBOURS,
    ) -> Answer:
        """Find the nearest items.

        Args:
            catalog: What is published.
            query: What is asked.
            within: What to look in; None for items like the query.
            source: Name of the source; None for all, which have to share a model.
            count: How many items.

        Raises:
            SearchError: `within` is none of `WITHIN`, nothing of the kind is published, or the query cannot be encoded
                by the model of what is.
            SearchIndexError: count is less than 1.
        """
        if within is not None and within not in WITHIN:
            raise SearchError(f"there is nothing called {within!r} to look in; look in {', '.join(WITHIN)}")
        wanted = query.modality if within is None else WITHIN[within]
        published = catalog.published()
        indexes, table = self._opened(catalog, published, query.modality, wanted, source)
        models = {index.table.model.fingerprint for index in indexes.values()}
        if len(models) > 1:
            raise SearchError(
                f"the sources {', '.join(sorted(indexes))} are embedded by different models, whose scores cannot be "
                f"compared; name one of them"
            )
        name, index = next(iter(indexes.items()))
        vector = self._encoded(catalog, query, table, name, index.table)
        hits = [hit for name, index in indexes.items() for hit in _hits(index, name, vector, wanted, count)]
        self._make_room(published, {(each, name) for each in (table, index_name(table), SPACE) for name in indexes})
        return Answer(
            query=query,
            hits=tuple(sorted(hits, key=lambda hit: -hit.score)[:count]),
            model=index.table.model.name,
            searched=sum(each.count(wanted) for each in indexes.values()),
        )

    def manifest(self, catalog: Catalog, source: str) -> CorpusManifest:
        """What a source holds, as it was last listed."""
        return self._value(catalog, CorpusManifest, "corpus_manifest", source)

    def _opened(
        self, catalog: Catalog, published: Sequence[Published], asked: str, wanted: str, source: str | None
    ) -> tuple[Mapping[str, OpenIndex], str]:
        """The indexes by source, of the first table that has what is wanted, and the name of that table."""
        names = [FUSED] if wanted == "fused" else [*([OWN[wanted]] if asked == wanted else []), JOINT]
        for table in names:
            partitions = [str(p.partition) for p in published if p.name == table and source in (None, p.partition)]
            indexes = {partition: self._index(catalog, table, partition) for partition in partitions}
            found = {partition: index for partition, index in indexes.items() if index.count(wanted)}
            if found:
                return found, table
        sources = sorted({str(p.partition) for p in published if p.name == "corpus_manifest"})
        raise SearchError(
            f"nothing to search: there are no {' or '.join(names)} with {wanted} items"
            f"{'' if source is None else f' of the source {source!r}'}; there are the sources "
            f"{', '.join(sources) or 'none'}. Materialize {names[-1]}, or look in something else"
        )

    def _encoded(self, catalog: Catalog, query: Query, table: str, source: str, vectors: EmbeddingTable) -> Vectors:
        encoder = self._encoder(catalog, query.modality, table, source)
        if encoder.fingerprint != vectors.model.fingerprint:
            raise SearchError(
                f"{table}[{source}] was made by {vectors.model}, and configured is {encoder.name} "
                f"({encoder.fingerprint[:8]}); materialize it again, or set the model back"
            )
        encoded = encoder.encode([query.content])
        if encoded.refused:
            raise SearchError(f"the query {query.shown!r} {encoded.refused[0]}")
        return encoded.vectors

    def _encoder(self, catalog: Catalog, modality: str, table: str, source: str) -> Encoder[Any]:
        if table in OWN.values():
            encoder = self._encoders.of(modality)
            if encoder is None:
                raise SearchError(
                    f"{table}[{source}] was made by a model that is no longer configured; set "
                    f"AURA_EMBEDDINGS__{modality.upper()}_MODEL back"
                )
            return encoder
        space = self._value(catalog, PublishedSpace, SPACE, source).open(self._encoders)  # type: ignore[type-abstract]
        if modality not in space.modalities:
            raise SearchError(
                f"the model {space.name} of the source {source!r} takes {', '.join(space.modalities)}, and the query "
                f"is {modality}"
            )
        return space.encoder(modality)

    def _index(self, catalog: Catalog, table: str, source: str) -> OpenIndex:
        vectors = self._value(catalog, EmbeddingTable, table, source)
        published = catalog.find(index_name(table), source)
        index = None if published is None else self._value(catalog, SearchIndex, index_name(table), source)
        with self._lock:
            there = self._indexes.get((table, source))
            if there is None or there.table is not vectors or there.index is not index:
                there = self._indexes[table, source] = OpenIndex(vectors, index)
        return there

    def _value(self, catalog: Catalog, kind: type[Value], name: str, source: str) -> Value:
        """A published value, loaded again only if another one has been published."""
        published = catalog.find(name, source)
        with self._lock:
            there = self._values.get((name, source))
        if there is not None and published is not None and there[0].version == published.version:
            value = there[1]
        else:
            value, published = catalog.load_published(name, source)
        if not isinstance(value, kind):
            raise SearchError(f"{name}[{source}] is a {type(value).__name__}; materialize it again")
        with self._lock:
            self._values[name, source] = published, value
            self._values.move_to_end((name, source))
        return value

    def _make_room(self, published: Sequence[Published], needed: Collection[tuple[str, str]]) -> None:
        """Let go of what is published no more and, least recently used first, of what is too much and not needed."""
        versions = {(each.name, each.partition): each.version for each in published}
        with self._lock:
            gone = [key for key, (loaded, _) in self._values.items() if versions.get(key) != loaded.version]
            kept = sum(loaded.bytes for key, (loaded, _) in self._values.items() if key not in gone)
            for key, (loaded, _) in self._values.items():
                if kept > self._kept_bytes and key not in needed and key not in gone:
                    gone.append(key)
                    kept -= loaded.bytes
            for key in gone:
                del self._values[key]
                self._indexes.pop(key, None)


def _hits(index: OpenIndex, source: str, vector: Vectors, wanted: str, count: int) -> list[Hit]:
    found = index.search(vector, wanted, count)
    rows = [row for row in found.rows[0].tolist() if row >= 0]
    records = index.table.table.select(["uri", "item_id", "modality", "label"]).take(rows).to_pylist()
    return [
        Hit(score=float(score), source=source, **record)
        for record, score in zip(records, found.scores[0].tolist(), strict=False)
    ]
