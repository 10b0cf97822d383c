"""Measuring trained towers on the items that were held out, and on those kept for validation.

Belongs here: which items are asked, and with what. Does not: the figures (`aura.embeddings.joint.evaluation`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aura.embeddings.errors import EncodingError
from aura.embeddings.joint.baselines import plain_features, supervised
from aura.embeddings.joint.config import Pair
from aura.embeddings.joint.encoder import vectors_of
from aura.embeddings.joint.evaluation import Embedded, Evaluation, Naming, retrievals, zero_shot
from aura.embeddings.joint.features import Features
from aura.embeddings.joint.model import NAME
from aura.embeddings.joint.prepare import Divided, Prepared
from aura.embeddings.joint.split import HeldOut, Side
from aura.embeddings.joint.towers import JointTowers


def embedded(towers: JointTowers, prepared: Prepared, divided: Divided, *sides: Side) -> dict[str, Embedded]:
    """Vectors of the items of some sides, of the modalities that have any.

    Raises:
        EncodingError: the towers give an item no usable vector.
    """
    found = {}
    for modality, items in prepared.items.items():
        rows = divided.rows(modality, *sides)
        if len(rows):
            vectors, usable = vectors_of(towers, modality, taken(items.features, rows))
            if not usable.all():
                raise EncodingError(
                    f"{NAME} gives {int((~usable).sum())} of {len(usable)} {modality} items vectors that are zero or "
                    f"not finite: its training has diverged; train it again with another AURA_JOINT__SEED"
                )
            found[modality] = Embedded(vectors, items.concepts[rows])
    return found


def taken(features: Features, items: NDArray[np.int64]) -> Features:
    """The features of some items, in ascending order."""
    rows = np.isin(features.owners, items)
    return Features(
        inputs=features.inputs[rows],
        owners=np.searchsorted(items, features.owners[rows]),
        frames=features.frames[rows],
        own=features.own[rows],
        kept=tuple(range(len(items))),
        refused={},
    )


def evaluate(
    towers: JointTowers, prepared: Prepared, divided: Divided, pairs: tuple[Pair, ...], held_out: HeldOut | None
) -> Evaluation:
    """Everything that is reported of a model, on its held-out items."""
    found = embedded(towers, prepared, divided, Side.HELD_OUT, Side.NAME)
    by_class = prepared.data.paired_by == "label"
    return Evaluation(
        held_out=_in_words(held_out),
        items=tuple((modality, len(items.concepts)) for modality, items in found.items()),
        retrieval=retrievals(found, frozenset(pairs)),
        naming=tuple(
            _naming(modality, prepared, divided, found) for modality in found if by_class and modality != "text"
        ),
    )


def _naming(modality: str, prepared: Prepared, divided: Divided, found: dict[str, Embedded]) -> Naming:
    items = prepared.items[modality]
    training, held_out = divided.trained(modality), divided.rows(modality, Side.HELD_OUT)
    plain = plain_features(modality, items.features)
    return Naming(
        modality=modality,
        classes=len(prepared.concepts),
        zero_shot=zero_shot(found[modality], found["text"]) if "text" in found else None,
        chance=1 / len(prepared.concepts),
        supervised=supervised(plain[training], items.concepts[training], plain[held_out], items.concepts[held_out]),
    )


def _in_words(held_out: HeldOut | None) -> str:
    if held_out is None:
        return "items by the hash of their id"
    if held_out.speaker is not None:
        return f"all items of {held_out.speaker}"
    return f"{len(held_out.item_ids)} chosen items"
