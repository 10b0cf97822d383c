"""What a get and a put cost on each tier of this machine: measured on real objects in the real store.

Belongs here: `TierProfile`, its measurement, and the prediction of a latency from it.
Does not: deciding what goes where (`placement.py`), the order of the measurements (`rounds.py`), the statistics
(`samples.py`, `latency.py`), the prediction of a whole replay (`prediction.py`).

The nominal order of the tiers is not assumed anywhere: on one machine a warm RocksDB answered faster than a local Redis
at every size. A get of a table, of tensors and of bytes are measured apart, since decoding costs more than the transfer
of a small object.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock
from numpy.typing import ArrayLike

from aura.measure.energy import EnergyMeter, UnavailableMeter
from aura.tiers.planning.rounds import Rounds
from aura.tiers.planning.samples import COSTS, SAMPLES, SKIPPED, tabulate
from aura.tiers.planning.scratch import KINDS, scratch_objects
from aura.tiers.planning.surface import LEAST_REUSE, Surface
from aura.tiers.records import Tier
from aura.tiers.store import TieredStore
from aura.tiers.tables import Json, ValueSchemaError, checked_table, scalars_of, table_part, with_scalars
from aura.tiers.values import Part

KIB = 1024
DEFAULT_SIZES = (4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, 1024 * KIB, 4096 * KIB)


class UnknownTierCostError(LookupError):
    """The profile has no measured cost for this tier, operation and kind."""


@dataclass(frozen=True, eq=False)
class TierProfile:
    """Measured cost of each tier.

    Attributes:
        costs: One row per tier, operation ("get", "put") and kind of object: the line `intercept_seconds +
            seconds_per_byte * bytes` with the 95 % confidence intervals of both, the bandwidth (1 / slope, null for a
            slope of 0), and joules per byte with their source ("measured", "modelled" or "unavailable", then null). A
            line is that of reads between reads of many other objects. Puts are measured on bytes only.
        samples: What the lines were fitted to: at each size and reuse distance n, the mean with its standard error, the
            median, the 10th and the 90th percentile, in seconds.
        skipped: What was not measured, with the reason.
        machine: Processor, cores and memory of the machine.
        rounds: Rounds over all tiers and sizes, without the discarded first one.
        seed: Seed of the order of the measurements.
        energy: Where the joules come from, or why there are none.
        interrupted: Mean of the gets with interruptions over that without, >= 1; it is in the means of the samples.
        interrupted_stderr: Its standard error.
    """

    costs: pa.Table
    samples: pa.Table
    skipped: pa.Table
    machine: str
    rounds: int
    seed: int
    energy: str = "unavailable: not measured"
    interrupted: float = 1.0
    interrupted_stderr: float = 0.0

    def __post_init__(self) -> None:
        for name, schema in (("costs", COSTS), ("samples", SAMPLES), ("skipped", SKIPPED)):
            checked_table(getattr(self, name), schema, f"TierProfile, {name}")
        for name in ("intercept_seconds", "seconds_per_byte"):
            if self.costs.num_rows and pc.min(self.costs[name]).as_py() < 0:
                raise ValueSchemaError(f"TierProfile, costs: {name} is below 0; a latency cannot fall with the size")

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """Tiers of which the get was measured, by nominal order."""
        return tuple(tier for tier in Tier if any(self.knows(tier, kind) for kind in KINDS))

    def knows(self, tier: Tier, kind: str, operation: str = "get") -> bool:
        """Whether the cost of this operation was measured."""
        return bool(self._rows(tier, kind, operation).num_rows)

    def predict_seconds(
        self,
        tier: Tier,
        size: ArrayLike,
        kind: str = "table",
        operation: str = "get",
        *,
        reuse_bytes: ArrayLike = np.inf,
    ) -> np.ndarray:
        """Predict mean latencies: the line, corrected by what was measured at sizes and reuse distances near to these.

        Caches and page faults bend the true curve (by up to a factor of two at 4 MiB), and what has just been read is
        read faster again.

        Args:
            tier: Where the object is read from or written to.
            size: int[...], bytes of the encoded objects.
            kind: "bytes", "table" or "tensors"; a put is "bytes", whatever is written.
            operation: "get" or "put".
            reuse_bytes: float[...], bytes that are copied between a read and the one before it of the same object; by
                default as many as were measured.

        Returns:
            float64[...] seconds, shaped like `size` and `reuse_bytes` together.

        Raises:
            UnknownTierCostError: This was not measured; the message has the reason where there is one.
        """
        return self.surface(tier, kind, operation).seconds(size, reuse_bytes)

    def surface(self, tier: Tier, kind: str, operation: str = "get") -> Surface:
        """What was measured of a tier, kind and operation, for interpolation.

        Raises:
            UnknownTierCostError: Nothing; the message has the reason where there is one.
        """
        rows = self._rows(tier, kind, operation)
        if not rows.num_rows:
            reasons = self._rows(tier, kind, operation, of=self.skipped)["reason"].unique().to_pylist()
            why = "; ".join(reasons) or f"measured are {', '.join(self.tiers) or 'none'}"
            raise UnknownTierCostError(
                f"the profile has no cost of a {operation} of {kind} in {tier} ({why}); measure the profile again"
            )
        samples = self._rows(tier, kind, operation, of=self.samples)
        size, reuse, mean, stderr = (
            samples[name].to_numpy() for name in ("bytes", "reuse_bytes", "mean_seconds", "mean_stderr")
        )
        sizes, distances = np.unique(size), np.unique(reuse)
        grid = np.full((2, len(distances), len(sizes)), np.nan)
        grid[:, np.searchsorted(distances, reuse), np.searchsorted(sizes, size)] = mean, stderr
        for column in range(len(sizes)):
            known = np.flatnonzero(~np.isnan(grid[0, :, column]))
            # A large object is in no small working set: what is known of it at the nearest distance counts.
            nearest = known[np.abs(np.arange(len(distances))[:, None] - known).argmin(axis=1)]
            grid[:, :, column] = grid[:, nearest, column]
        line = rows.to_pylist()[0]
        return Surface(
            sizes.astype(np.float64),
            np.maximum(distances.astype(np.float64), LEAST_REUSE),
            grid[0],
            grid[1],
            line["intercept_seconds"],
            line["seconds_per_byte"],
        )

    def line_seconds(self, tier: Tier, size: ArrayLike, kind: str = "table", operation: str = "get") -> np.ndarray:
        """The fitted line alone, `intercept_seconds + seconds_per_byte * size`; arguments as in `predict_seconds`.

        Raises:
            UnknownTierCostError: This was not measured; the message has the reason where there is one.
        """
        return self.surface(tier, kind, operation).line(size)

    def _rows(self, tier: Tier, kind: str, operation: str, of: pa.Table | None = None) -> pa.Table:
        table = self.costs if of is None else of
        wanted = (pc.field("tier") == str(tier)) & (pc.field("kind") == kind) & (pc.field("operation") == operation)
        return table.filter(wanted)

    def to_parts(self) -> Mapping[str, Part]:
        """Take the profile apart into three tables."""
        scalars: dict[str, Json] = {
            "machine": self.machine,
            "energy": self.energy,
            "interrupted": self.interrupted,
            "interrupted_stderr": self.interrupted_stderr,
            "rounds": self.rounds,
            "seed": self.seed,
        }
        return {"costs": with_scalars(self.costs, scalars), "samples": self.samples, "skipped": self.skipped}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Part]) -> Self:
        """Put the profile together.

        Raises:
            ValueSchemaError: A part is missing or has other columns.
        """
        costs = table_part(parts, "costs", COSTS, "TierProfile")
        scalars = scalars_of(costs, "TierProfile")
        return cls(
            costs=costs.replace_schema_metadata(None),
            samples=table_part(parts, "samples", SAMPLES, "TierProfile"),
            skipped=table_part(parts, "skipped", SKIPPED, "TierProfile"),
            machine=str(scalars["machine"]),
            energy=str(scalars["energy"]),
            interrupted=float(str(scalars["interrupted"])),
            interrupted_stderr=float(str(scalars["interrupted_stderr"])),
            rounds=int(str(scalars["rounds"])),
            seed=int(str(scalars["seed"])),
        )


def measure_profile(
    store: TieredStore,
    *,
    sizes: Sequence[int] = DEFAULT_SIZES,
    repeats: int = 15,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    meter: EnergyMeter | None = None,
) -> TierProfile:
    """Measure get and put on every tier of a store, with real objects that are removed afterwards.

    A size that does not fit beside what a tier holds is skipped and listed in `skipped`. Another process that measures
    the same store at the same time waits for its turn.

    Args:
        store: The store.
        sizes: Bytes per object, two different ones at least.
        repeats: Rounds; each reads every object several times.
        seed: Seed of the order and of the objects' content.
        progress: Called with (rounds done, rounds in all).
        meter: Where joules come from. A counter sees the whole machine: what it used in the meantime for other work is
            counted too. Without one joules are "unavailable", never estimated.

    Returns:
        The profile. A tier where fewer than two sizes could be measured has samples but no line.

    Raises:
        ValueError: Fewer than two sizes, or `repeats` below 1.
        StoreError: The store failed.
    """
    if len(set(sizes)) < 2 or min(sizes) < KIB:
        raise ValueError(f"sizes is {tuple(sizes)}: a line needs two different sizes of {KIB} bytes or more")
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}: at least one round is needed")
    rng = np.random.default_rng(seed)
    with FileLock(store.directory / "profile.lock"), scratch_objects(store, sizes, rng) as entries:
        measured = Rounds(store, entries, rng)
        for turn in range(repeats + 1):
            measured.run(turn - 1)  # The first one warms code paths, page cache and allocators.
            if progress is not None:
                progress(turn + 1, repeats + 1)
        energies, first = measured.energies(meter or UnavailableMeter("no energy meter was given"))
    measured.finish()
    costs, samples, interruptions = tabulate(measured.timed, energies, rounds=repeats, seed=seed)
    skipped = [
        {**line._asdict(), "bytes": size, "reason": reason} for (line, size), reason in sorted(measured.skipped.items())
    ]
    return TierProfile(
        costs=costs,
        samples=samples,
        skipped=pa.Table.from_pylist(skipped, schema=SKIPPED),
        machine=machine_name(),
        energy=": ".join(each for each in (first.source, first.method, first.reason) if each and each != "none"),
        interrupted=interruptions["get"].factor,
        interrupted_stderr=interruptions["get"].stderr,
        rounds=repeats,
        seed=seed,
    )


def machine_name() -> str:
    """Name the processor, its cores and the memory of this machine."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    memory = psutil.virtual_memory().total / (1 << 30)
    return f"{processor}, {os.cpu_count()} cores, {memory:.1f} GiB"
