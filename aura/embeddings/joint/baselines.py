"""Naming images and sounds without a joint space: classifiers of one modality, trained on the same items.

Belongs here: what the joint model is compared with. Does not: the comparison.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from aura.embeddings.joint.augmentation import standardised
from aura.embeddings.joint.evaluation import Share
from aura.embeddings.joint.features import Features

REGRESSION = "logistic regression"
NEIGHBOUR = "nearest neighbour"

MAX_ITEMS = 5_000
"""Items that they are trained on; of more, evenly spaced ones, which are ordered by the hash of their content."""


def plain_features(modality: str, features: Features) -> NDArray[np.float32]:
    """What a classifier gets [n, d].

    All pixels of an image; of a sound's first window, the mean and the deviation of each band over its length, and
    its mean in each eighth of it.
    """
    import torch

    firsts = np.searchsorted(features.owners, np.arange(features.owners[-1] + 1))
    inputs = features.inputs[firsts].astype(np.float32, copy=False)
    if modality != "audio":
        return inputs.reshape(len(inputs), -1)
    frames = np.minimum(features.frames[firsts], inputs.shape[2])
    spectra = standardised(torch.from_numpy(inputs), torch.from_numpy(frames)).numpy()
    rows = []
    for spectrum, raw, length in zip(spectra, inputs, frames, strict=True):
        eighths = [part.mean(axis=1) for part in np.array_split(spectrum[:, : max(length, 8)], 8, axis=1)]
        rows.append(np.concatenate([raw[:, :length].mean(axis=1), raw[:, :length].std(axis=1), *eighths]))
    return np.stack(rows).astype(np.float32)


def supervised(
    training: NDArray[np.float32],
    concepts: NDArray[np.int64],
    held_out: NDArray[np.float32],
    held_out_concepts: NDArray[np.int64],
) -> tuple[tuple[str, Share], ...]:
    """How many held-out items two classifiers name rightly, on the same standardised features."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(concepts) > MAX_ITEMS:
        chosen = np.linspace(0, len(concepts) - 1, MAX_ITEMS).round().astype(np.int64)
        training, concepts = training[chosen], concepts[chosen]
    if len(np.unique(concepts)) < 2:
        return ()
    shares = []
    for name, classifier in (
        (REGRESSION, LogisticRegression(max_iter=300)),
        (NEIGHBOUR, KNeighborsClassifier(n_neighbors=1)),
    ):
        with warnings.catch_warnings():
            # A fit that is still improving at the last iteration is a fair enough reference.
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = make_pipeline(StandardScaler(), classifier).fit(training, concepts)
        right = int((fitted.predict(held_out) == held_out_concepts).sum())
        shares.append((name, Share.of(right, len(held_out_concepts))))
    return tuple(shares)
