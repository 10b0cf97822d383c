"""What a joint model reaches on items that it has not seen, as plain figures, each beside what chance reaches.

Belongs here: looking items up across modalities, naming them. Does not: other ways to name items
(`aura.embeddings.joint.baselines`), training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from aura.embeddings.encoder import Vectors

_NORMAL_QUANTILE_975 = 1.959963984540054

MAX_GALLERY = 4_000
"""Items of one modality that are looked through; of more, evenly spaced ones, so that the table of cosines fits."""


@dataclass(frozen=True)
class Share:
    """A part of a whole, with the 95 % interval of Wilson (1927).

    Attributes:
        count: How many it is true of.
        total: How many there are.
        value: count / total.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    count: int
    total: int
    value: float
    low: float
    high: float

    @classmethod
    def of(cls, count: int, total: int) -> Share:
        """The share of `count` in `total`; raises ValueError unless 0 <= count <= total and total > 0."""
        if total < 1 or not 0 <= count <= total:
            raise ValueError(f"{count} of {total} is not a share")
        p, z2 = count / total, _NORMAL_QUANTILE_975**2
        centre = (p + z2 / (2 * total)) / (1 + z2 / total)
        half = _NORMAL_QUANTILE_975 / (1 + z2 / total) * math.sqrt(p * (1 - p) / total + z2 / (4 * total**2))
        return cls(count, total, p, min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half)))


@dataclass(frozen=True, eq=False)
class Embedded:
    """Vectors of the held-out items of one modality, or of the texts they are looked up with.

    Attributes:
        vectors: [n, d] of length 1.
        concepts: What each is about [n].
    """

    vectors: Vectors
    concepts: NDArray[np.int64]


@dataclass(frozen=True)
class Retrieval:
    """Finding items of one modality with those of another.

    Attributes:
        query: Modality of the queries.
        gallery: Modality of what is found.
        items: Items in the gallery.
        recall_at_1: Queries of which the nearest item is about the same thing.
        mean_rank: Mean place of the nearest item that is about the same thing, from 1.
        chance_recall_at_1: Expected with an order by lot.
        chance_mean_rank: Likewise.
        trained: Whether the two modalities were compared in training.
    """

    query: str
    gallery: str
    items: int
    recall_at_1: Share
    mean_rank: float
    chance_recall_at_1: float
    chance_mean_rank: float
    trained: bool


@dataclass(frozen=True)
class Naming:
    """Telling the concept of items of one modality.

    Attributes:
        modality: What is named.
        classes: Concepts to choose from.
        zero_shot: Items whose concept has the nearest texts; None where there are no texts of it.
        chance: One over the classes.
        supervised: Other ways to name the same items, trained on the same items, by their plain name.
    """

    modality: str
    classes: int
    zero_shot: Share | None
    chance: float
    supervised: tuple[tuple[str, Share], ...]


@dataclass(frozen=True)
class Evaluation:
    """Everything measured on one set of held-out items.

    Attributes:
        held_out: In words, what was held out.
        items: Held-out items per modality; texts that serve as names are counted too.
        retrieval: One entry per ordered pair of modalities.
        naming: One entry per modality but text, where concepts are classes; else empty.
    """

    held_out: str
    items: tuple[tuple[str, int], ...]
    retrieval: tuple[Retrieval, ...]
    naming: tuple[Naming, ...]

    def recall(self, query: str, gallery: str) -> float:
        """Recall@1 of an ordered pair; raises KeyError where the pair was not measured."""
        for entry in self.retrieval:
            if (entry.query, entry.gallery) == (query, gallery):
                return entry.recall_at_1.value
        raise KeyError(f"{query} to {gallery} was not measured")


def retrievals(embedded: dict[str, Embedded], trained: frozenset[tuple[str, str]]) -> tuple[Retrieval, ...]:
    """Every ordered pair of modalities that have items in common."""
    found = (
        _retrieval(query, gallery, embedded, trained=bool({(query, gallery), (gallery, query)} & trained))
        for query, gallery in permutations(embedded, 2)
    )
    return tuple(entry for entry in found if entry is not None)


def _retrieval(query: str, gallery: str, embedded: dict[str, Embedded], *, trained: bool) -> Retrieval | None:
    queries, items = _thinned(embedded[query]), _thinned(embedded[gallery])
    same = queries.concepts[:, None] == items.concepts[None]
    has_partner = same.any(axis=1)
    if not has_partner.any():
        return None
    same = same[has_partner]
    cosines = queries.vectors[has_partner] @ items.vectors.T
    best = np.where(same, cosines, -np.inf).max(axis=1)
    # An item as near as the best partner goes before it, so that a model that gives all the same vector has no luck.
    before = ((cosines >= best[:, None]) & ~same).sum(axis=1)
    partners = same.sum(axis=1)
    return Retrieval(
        query=query,
        gallery=gallery,
        items=len(items.concepts),
        recall_at_1=Share.of(int((before == 0).sum()), len(before)),
        mean_rank=float(before.mean() + 1),
        chance_recall_at_1=float((partners / same.shape[1]).mean()),
        chance_mean_rank=float(((same.shape[1] + 1) / (partners + 1)).mean()),
        trained=trained,
    )


def zero_shot(items: Embedded, texts: Embedded) -> Share | None:
    """Items whose concept has the nearest text, the mean vector where it has several; only concepts with a text."""
    names, prototypes = prototypes_of(texts)
    known = np.isin(items.concepts, names)
    if not known.any():
        return None
    named = names[(items.vectors[known] @ prototypes.T).argmax(axis=1)]
    return Share.of(int((named == items.concepts[known]).sum()), int(known.sum()))


def prototypes_of(embedded: Embedded) -> tuple[NDArray[np.int64], Vectors]:
    """The concepts [k], ascending, and the direction of the mean vector of each [k, d]."""
    names, places = np.unique(embedded.concepts, return_inverse=True)
    sums = np.zeros((len(names), embedded.vectors.shape[1]), np.float64)
    np.add.at(sums, places, embedded.vectors)
    norms = np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    prototypes: Vectors = (sums / norms).astype(np.float32)
    return names, prototypes


def _thinned(embedded: Embedded) -> Embedded:
    count = len(embedded.concepts)
    if count <= MAX_GALLERY:
        return embedded
    places = np.linspace(0, count - 1, MAX_GALLERY).round().astype(np.int64)
    return Embedded(embedded.vectors[places], embedded.concepts[places])
