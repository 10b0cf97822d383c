"""What a sequence of reads will cost by a profile, and what it did cost.

Belongs here: predicting the mean latency of a replay, replaying it, and the comparison, which is how a cost model that
describes nothing is found out. Does not: measuring a profile (`profile.py`), deciding who lives where (`placement.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aura.tiers.errors import ObjectNotFoundError
from aura.tiers.planning.latency import LatencySummary, summarize_latencies, without_interruptions
from aura.tiers.planning.profile import TierProfile
from aura.tiers.planning.reuse import reuse_bytes
from aura.tiers.planning.rounds import passing_bytes
from aura.tiers.records import Entry
from aura.tiers.store import TieredStore

RESAMPLES = 1000
NORMAL_95 = 1.959963984540054
"""Standard errors on either side of a mean that make its 95 % interval."""


@dataclass(frozen=True, slots=True)
class PredictedMean:
    """A predicted mean latency of gets.

    Attributes:
        mean_seconds: The prediction.
        mean_low: Lower end of its 95 % interval, from the standard errors of what was measured for the profile.
        mean_high: Upper end. Neither knows how the machine will differ from what it was then.
        calm_mean_seconds: The prediction without the interruptions that lengthened the gets of the profile.
    """

    mean_seconds: float
    mean_low: float
    mean_high: float
    calm_mean_seconds: float


@dataclass(frozen=True, slots=True)
class Replay:
    """A sequence of reads, predicted and measured.

    Attributes:
        predicted: By the profile, from where the objects lived.
        measured: The gets, timed.
        calm_mean_seconds: Their mean without interruptions, the gets above four medians of their object's gets.
    """

    predicted: PredictedMean
    measured: LatencySummary
    calm_mean_seconds: float

    @property
    def relative_error(self) -> float:
        """Predicted over measured mean, minus 1."""
        return self.predicted.mean_seconds / self.measured.mean_seconds - 1

    @property
    def calm_error(self) -> float:
        """The same of the means without interruptions: the error of the model, whatever else the machine did."""
        return self.predicted.calm_mean_seconds / self.calm_mean_seconds - 1


def replay(store: TieredStore, profile: TierProfile, keys: Sequence[str], *, seed: int = 0) -> Replay | None:
    """Predict what reading these objects in this order costs, then read them.

    Every object is read once before the clock starts, so that no read is the first one; none is logged. Objects that
    vanish meanwhile are left out.

    Args:
        store: The store.
        profile: Measured costs of its tiers.
        keys: The objects, in order of the reads; they may repeat.
        seed: Seed of the bootstrap of the measured mean.

    Returns:
        Prediction and measurement; None if none of the objects is there.

    Raises:
        UnknownTierCostError: The profile does not know the cost of an object where it lives.
        StoreError: The store failed.
    """
    left = list(keys)
    while left:
        try:
            store.time_gets(sorted(set(left)))
            lives = {entry.key: entry for entry in store.entries()}
            left = [key for key in left if key in lives]
            seconds = store.time_gets(left)
            measured = summarize_latencies(seconds, resamples=RESAMPLES, seed=seed)
            return Replay(predict_mean(profile, lives, left), measured, _calm_mean(left, seconds))
        except ObjectNotFoundError:
            present = {entry.key for entry in store.entries()}
            left = [key for key in left if key in present]
    return None


def predict_mean(profile: TierProfile, lives: Mapping[str, Entry], keys: Sequence[str]) -> PredictedMean:
    """Predict the mean latency of reading objects in an order, each of them read once before in order of its key.

    A read costs what the profile measured for the object's tier, kind and size at the reuse distance that the read has
    in this order.

    Args:
        profile: Measured costs.
        lives: Each object by its key, with the tier where it lives.
        keys: At least one read.

    Raises:
        UnknownTierCostError: The profile does not know the cost of an object where it lives.
        ValueError: There is no read.
    """
    if not keys:
        raise ValueError("no reads to predict")
    names = sorted(set(keys))
    number = {name: place for place, name in enumerate(names)}
    entries = [lives[name] for name in names]
    size = np.array([entry.bytes for entry in entries], dtype=np.float64)
    reads = np.array([number[key] for key in keys], dtype=np.int64)
    distance = _distances(entries, reads)
    surfaces = sorted({(entry.tier, entry.kind) for entry in entries})
    surface_of = np.array([surfaces.index((entry.tier, entry.kind)) for entry in entries])
    total = variance = 0.0
    for place, (tier, kind) in enumerate(surfaces):
        mine = surface_of[reads] == place
        surface = profile.surface(tier, kind)
        counted = surface.coefficients(size[reads[mine]], distance[mine])
        total += float((counted * surface.mean_seconds).sum())
        variance += float((counted**2 * surface.stderr_seconds**2).sum())
    variance += (total * profile.interrupted_stderr / profile.interrupted) ** 2
    half = NORMAL_95 * variance**0.5
    mean = total / len(keys)
    return PredictedMean(
        mean, max(0.0, total - half) / len(keys), (total + half) / len(keys), mean / profile.interrupted
    )


def _calm_mean(keys: Sequence[str], seconds: NDArray[np.float64]) -> float:
    _, number = np.unique(keys, return_inverse=True)
    order = np.argsort(number, kind="stable")
    each = np.split(seconds[order], np.flatnonzero(np.diff(number[order])) + 1)
    return float(sum(without_interruptions(mine).sum() for mine in each) / len(seconds))


def _distances(entries: Sequence[Entry], reads: NDArray[np.int64]) -> NDArray[np.float64]:
    """Reuse distance of each read float64[n] in the bytes that its tier depends on, all objects read once before."""
    order = np.concatenate([np.arange(len(entries)), reads])
    tier_of = np.array([str(entry.tier) for entry in entries])
    distance = np.empty(len(reads))
    for reader in sorted({entry.tier for entry in entries}):
        passing = np.array([passing_bytes(reader, entry.tier, entry.bytes) for entry in entries], dtype=np.float64)
        mine = tier_of[reads] == str(reader)
        distance[mine] = reuse_bytes(order, passing)[len(entries) :][mine]
    return distance
