"""Items made ready for training: features computed once, concepts numbered, sides settled.

Belongs here: what every training of the same items shares. Does not: networks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aura.embeddings.joint.card import ModalityItems
from aura.embeddings.joint.config import JointConfig
from aura.embeddings.joint.data import JointData
from aura.embeddings.joint.errors import NotTrainableError
from aura.embeddings.joint.features import MAX_ALL_WINDOWS, MAX_TRAINING_WINDOWS, Features, Featurizer
from aura.embeddings.joint.sizes import FeatureSettings
from aura.embeddings.joint.split import HeldOut, Side, split

MIN_CONCEPTS = 2
MIN_TRAINING_ITEMS = 16
"""Training items of each modality but text, and of text where it is not names."""


@dataclass(frozen=True, eq=False)
class PreparedItems:
    """The readable items of one modality.

    Attributes:
        item_ids: Sorted.
        concepts: Numbers of their concepts [n].
        features: Of all of them, none refused.
        first_row: Where the features of each item begin [n + 1].
        unreadable: Items that could not be decoded.
    """

    item_ids: tuple[str, ...]
    concepts: NDArray[np.int64]
    features: Features
    first_row: NDArray[np.int64]
    unreadable: int


@dataclass(frozen=True, eq=False)
class Prepared:
    """All items, as every training of them sees them.

    Attributes:
        data: The readable items.
        settings: How they became numbers.
        concepts: Names of the concepts, sorted.
        items: Per modality.
    """

    data: JointData
    settings: FeatureSettings
    concepts: tuple[str, ...]
    items: Mapping[str, PreparedItems]


@dataclass(frozen=True, eq=False)
class Divided:
    """The sides of one training.

    Attributes:
        sides: `Side` of each item, per modality.
        digest: blake2b-128 hex of ids, concepts and sides.
        counts: Items per side, for the card.
    """

    sides: Mapping[str, NDArray[np.int64]]
    digest: str
    counts: Mapping[str, ModalityItems]

    def rows(self, modality: str, *wanted: Side) -> NDArray[np.int64]:
        """Positions of the items of some sides."""
        return np.flatnonzero(np.isin(self.sides[modality], wanted))

    def trained(self, modality: str) -> NDArray[np.int64]:
        """Positions of the items that are trained on."""
        return self.rows(modality, Side.TRAINING, Side.NAME)


def prepare(data: JointData, config: JointConfig, progress: Callable[[int, int], None] | None = None) -> Prepared:
    """Decode all items; those that cannot be decoded are left out and counted.

    Args:
        data: The items.
        config: Gives the bounds of the sizes.
        progress: Called with (items decoded, items in all).

    Raises:
        NotTrainableError: Fewer than two modalities have readable items, or fewer than two concepts.
    """
    settings = FeatureSettings.suiting(data, config)
    featurizer = Featurizer(settings)
    readable = {}
    features: dict[str, Features] = {}
    total, done = sum(len(items) for items in data.items.values()), 0
    for modality, items in data.items.items():
        windows = min(MAX_TRAINING_WINDOWS, max(1, MAX_ALL_WINDOWS // len(items)))
        found = featurizer.features(modality, [item.content for item in items], max_windows=windows)
        done += len(items)
        if progress is not None:
            progress(done, total)
        if found.kept:
            features[modality] = found
            readable[modality] = tuple(items[position] for position in found.kept)
    readable_data = JointData(readable, data.paired_by, data.left_out)
    concepts = readable_data.concepts()
    if len(readable) < 2 or len(concepts) < MIN_CONCEPTS:
        raise NotTrainableError(
            f"a joint model needs items of two modalities and {MIN_CONCEPTS} labels or groups; of this source "
            f"{_listed(tuple(readable)) or 'nothing'} can be read, about {len(concepts)} of them"
        )
    number = {concept: index for index, concept in enumerate(concepts)}
    return Prepared(
        data=readable_data,
        settings=settings,
        concepts=concepts,
        items={
            modality: PreparedItems(
                item_ids=tuple(item.item_id for item in items),
                concepts=np.array([number[item.concept] for item in items], np.int64),
                features=features[modality],
                first_row=np.searchsorted(features[modality].owners, np.arange(len(items) + 1)),
                unreadable=len(features[modality].refused),
            )
            for modality, items in readable_data.items.items()
        },
    )


def divide(prepared: Prepared, config: JointConfig, held_out: HeldOut | None = None) -> Divided:
    """Settle the sides of a training.

    Raises:
        NotTrainableError: Too few items would be trained on or held out.
    """
    sides = split(prepared.data, config.held_out_share, config.validation_share, held_out)
    digest = hashlib.blake2b(digest_size=16)
    digest.update("\0".join([prepared.data.paired_by, *prepared.concepts]).encode())
    for modality, items in prepared.items.items():
        digest.update("\0".join([modality, *items.item_ids]).encode())
        digest.update(items.concepts.tobytes())
        digest.update(sides[modality].tobytes())
    divided = Divided(sides, digest.hexdigest(), _counts(prepared, sides))
    for modality, count in divided.counts.items():
        if count.training < MIN_TRAINING_ITEMS and not (modality == "text" and count.names):
            raise NotTrainableError(
                f"{count.training} items of modality {modality} to train on, {MIN_TRAINING_ITEMS} are needed; give "
                f"more of them that belong to items of another modality"
            )
    return divided


def _counts(prepared: Prepared, sides: Mapping[str, NDArray[np.int64]]) -> dict[str, ModalityItems]:
    counts = {}
    for modality, items in prepared.items.items():
        of = np.bincount(sides[modality], minlength=len(Side))
        speakers = {item.speaker for item in prepared.data.items[modality]} - {None}
        counts[modality] = ModalityItems(
            training=int(of[Side.TRAINING] + of[Side.NAME]),
            validation=int(of[Side.VALIDATION]),
            held_out=int(of[Side.HELD_OUT]),
            names=int(of[Side.NAME]),
            unreadable=items.unreadable,
            speakers=len(speakers),
        )
    return counts


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(names)
