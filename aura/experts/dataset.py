"""Labelled vectors made ready for training: rows chosen, labels numbered, a held-out part split off.

The split hashes item ids, so that an item keeps its side when others come and go.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aura.experts.card import Split
from aura.experts.config import ExpertConfig

MIN_TRAINING_ITEMS_PER_EXPERT = 4


class NotTrainableError(ValueError):
    """There is too little to learn from."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What a training sees; rows sorted by item id, so the order of the input does not matter.

    Attributes:
        training_vectors: [n, d] float32.
        training_targets: Indices into `labels` [n] int64.
        held_out_vectors: [m, d] float32.
        held_out_targets: Indices into `labels` [m] int64.
        labels: The labels, sorted.
        split: Where the rows went.
        digest: blake2b-128 hex of ids, labels and vectors used.
    """

    training_vectors: np.ndarray
    training_targets: np.ndarray
    held_out_vectors: np.ndarray
    held_out_targets: np.ndarray
    labels: tuple[str, ...]
    split: Split
    digest: str


def check_vectors(vectors: np.ndarray, *columns: Sequence[str | None]) -> None:
    """Raise ValueError unless vectors are [n, d] float32, finite, and every column has n entries."""
    if vectors.ndim != 2 or vectors.dtype != np.float32:
        raise ValueError(f"vectors are {vectors.dtype}{list(vectors.shape)}; expected float32 [items, dimensions]")
    if any(len(column) != len(vectors) for column in columns):
        lengths = [len(column) for column in columns]
        raise ValueError(f"{len(vectors)} vectors go with labels or item ids of lengths {lengths}; give one per vector")
    if not np.isfinite(vectors).all():
        rows = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        raise ValueError(f"{len(rows)} vectors are not finite, the first in row {rows[0]}; embed these items again")


def prepare(
    vectors: np.ndarray, labels: Sequence[str | None], item_ids: Sequence[str], config: ExpertConfig
) -> TrainingData:
    """Choose rows, number labels, split.

    Args:
        vectors: [n, d] float32.
        labels: One label or None per vector.
        item_ids: One id per vector.
        config: Gives `min_label_items` and `held_out_share`.

    Returns:
        The data of one training.

    Raises:
        ValueError: The input is malformed.
        NotTrainableError: Fewer than two labels, or too few items, remain.
    """
    check_vectors(vectors, labels, item_ids)
    sizes = Counter(label for label in labels if label is not None)
    names = tuple(sorted(label for label, size in sizes.items() if size >= config.min_label_items))
    if len(names) < 2:
        raise NotTrainableError(
            f"{len(names)} labels have at least {config.min_label_items} items (of {len(sizes)} labels on "
            f"{sizes.total()} items); a classifier needs two: give a corpus with labels, or lower min_label_items"
        )
    number = {label: index for index, label in enumerate(names)}
    rows = sorted((row for row, label in enumerate(labels) if label in number), key=lambda row: item_ids[row])
    ids = [item_ids[row] for row in rows]
    targets = np.array([number[str(labels[row])] for row in rows], dtype=np.int64)
    held_out = held_out_mask(ids, targets, config.held_out_share)
    chosen = vectors[rows]
    training = int((~held_out).sum())
    if training < config.experts * MIN_TRAINING_ITEMS_PER_EXPERT:
        raise NotTrainableError(
            f"{training} training items for {config.experts} experts; give at least "
            f"{MIN_TRAINING_ITEMS_PER_EXPERT} per expert: a larger corpus or fewer experts"
        )
    split = Split(
        training=training,
        held_out=int(held_out.sum()),
        unlabelled=len(labels) - sizes.total(),
        rare=sizes.total() - len(rows),
        rare_labels=len(sizes) - len(names),
    )
    digest = hashlib.blake2b(digest_size=16)
    digest.update("\0".join([*ids, "", *names]).encode())
    digest.update(targets.tobytes())
    digest.update(np.ascontiguousarray(chosen).tobytes())
    return TrainingData(
        chosen[~held_out], targets[~held_out], chosen[held_out], targets[held_out], names, split, digest.hexdigest()
    )


def held_out_mask(item_ids: Sequence[str], targets: np.ndarray, share: float) -> np.ndarray:
    """Which items are held out: those whose id hashes below the share, and of every label the lowest hash.

    The hash spreads each label alike; the second rule gives every label at least one held-out item, and the highest
    hash of a label stays in training for the same reason. So a new item can move at most two others of its label.

    Args:
        item_ids: n ids.
        targets: Their labels as integers [n].
        share: Wanted share of held-out items.

    Returns:
        [n] bool.
    """
    fraction = np.array(
        [int.from_bytes(hashlib.blake2b(item.encode(), digest_size=8).digest()) / 2**64 for item in item_ids]
    )
    held_out = fraction < share
    by_label = np.lexsort((fraction, targets))
    starts = np.flatnonzero(np.diff(targets[by_label], prepend=-1))
    held_out[by_label[starts]] = True
    held_out[by_label[np.append(starts[1:], len(targets)) - 1]] = False
    return held_out
