"""Which items are trained on, which decide between settings, and which are held out.

The split hashes item ids, so that an item keeps its side when others come and go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from aura.embeddings.joint.data import JointData, JointItem

MIN_DIVIDED = 5
"""Items of one concept and modality from which on some of them are held out; with fewer, texts serve both sides as
names, and images and sounds are trained on."""


class Side(IntEnum):
    """Where an item goes; a name is a text that is trained on and that held-out items are looked up with."""

    TRAINING = 0
    VALIDATION = 1
    HELD_OUT = 2
    NAME = 3


@dataclass(frozen=True)
class HeldOut:
    """What is held out in place of what the hash says.

    Attributes:
        speaker: All items of this speaker, and no other item of the modalities that know speakers.
        item_ids: These items, and no other item of the modalities that they belong to.
    """

    speaker: str | None = None
    item_ids: frozenset[str] = frozenset()


Sides = Mapping[str, NDArray[np.int64]]


def split(data: JointData, held_out_share: float, validation_share: float, held_out: HeldOut | None = None) -> Sides:
    """The `Side` of every item, per modality, in the order of the data.

    Args:
        data: The items.
        held_out_share: Share that is held out.
        validation_share: Share for validation.
        held_out: What is held out by choice.
    """
    held_out = held_out or HeldOut()
    if data.paired_by == "group":
        return _by_concept(data, held_out_share, validation_share, held_out)
    return {
        modality: _by_item(modality, items, held_out_share, validation_share, held_out)
        for modality, items in data.items.items()
    }


def _by_item(
    modality: str, items: Sequence[JointItem], held_out_share: float, validation_share: float, held_out: HeldOut
) -> NDArray[np.int64]:
    fractions = hash_fractions([item.item_id for item in items])
    chosen = np.array([_is_chosen(item, held_out) for item in items])
    sides = np.full(len(items), Side.TRAINING, dtype=np.int64)
    if chosen.any():
        # Validation takes the share of the hash that it always takes; the hashed held-out share goes to training.
        sides[(fractions >= held_out_share) & (fractions < held_out_share + validation_share)] = Side.VALIDATION
        sides[chosen] = Side.HELD_OUT
        return sides
    concepts = np.array([item.concept for item in items])
    order = np.lexsort((fractions, concepts))
    starts = np.flatnonzero(np.append(True, concepts[order][1:] != concepts[order][:-1]))
    for members in np.split(order, starts[1:]):
        if len(members) >= MIN_DIVIDED:
            sides[members] = _hashed_sides(fractions[members], held_out_share, validation_share)
        elif modality == "text":
            sides[members] = Side.NAME
    return sides


def _by_concept(
    data: JointData, held_out_share: float, validation_share: float, held_out: HeldOut
) -> dict[str, NDArray[np.int64]]:
    concepts = data.concepts()
    chosen = {item.concept for items in data.items.values() for item in items if _is_chosen(item, held_out)}
    fractions = hash_fractions(concepts)
    order = np.argsort(fractions)
    sides = np.empty(len(concepts), np.int64)
    sides[order] = _hashed_sides(fractions[order], held_out_share, validation_share)
    if chosen:
        is_chosen = np.isin(concepts, sorted(chosen))
        sides = np.where(is_chosen, Side.HELD_OUT, np.where(sides == Side.HELD_OUT, Side.TRAINING, sides))
    side_of = dict(zip(concepts, sides.tolist(), strict=True))
    return {
        modality: np.array([side_of[item.concept] for item in items], np.int64)
        for modality, items in data.items.items()
    }


def _hashed_sides(fractions: NDArray[np.float64], held_out_share: float, validation_share: float) -> NDArray[np.int64]:
    """Sides of ascending hashes; the lowest is always held out, the highest always trained on."""
    sides = np.where(
        fractions < held_out_share,
        Side.HELD_OUT,
        np.where(fractions < held_out_share + validation_share, Side.VALIDATION, Side.TRAINING),
    ).astype(np.int64)
    sides[0], sides[-1] = Side.HELD_OUT, Side.TRAINING
    return sides


def _is_chosen(item: JointItem, held_out: HeldOut) -> bool:
    return item.item_id in held_out.item_ids or (held_out.speaker is not None and item.speaker == held_out.speaker)


def hash_fractions(keys: Sequence[str]) -> NDArray[np.float64]:
    """A number in [0, 1) per key that depends on nothing else."""
    digests = (hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys)
    return np.array([int.from_bytes(digest) / 2**64 for digest in digests])
