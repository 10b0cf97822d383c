"""What a get and a put cost on each tier of this machine: measured on real objects in the real store.

Belongs here: `TierProfile`, its measurement, and the prediction of a latency from it.
Does not: deciding what goes where (`placement.py`), the fit itself (`latency.py`).

The nominal order of the tiers is not assumed anywhere: on one machine a warm RocksDB answered faster than a local Redis
at every size. A get of a table, of tensors and of bytes are measured apart, since decoding costs more than the transfer
of a small object.
"""

from __future__ import annotations

import os
import platform
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock
from numpy.typing import ArrayLike

from aura.tiers.errors import CapacityError, TierAbsentError
from aura.tiers.latency import fit_latency
from aura.tiers.scratch import KINDS, scratch_objects
from aura.tiers.store import Tier, TieredStore
from aura.tiers.tables import Json, ValueSchemaError, checked_table, scalars_of, table_part, with_scalars
from aura.tiers.values import Part

KIB = 1024
DEFAULT_SIZES = (4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, 1024 * KIB, 4096 * KIB)
PUTS_A_ROUND = 2
"""Puts per size, tier and round: each one into L3 waits for the disk."""

COSTS = pa.schema(
    [
        ("tier", pa.string()),
        ("operation", pa.string()),
        ("kind", pa.string()),
        ("intercept_seconds", pa.float64()),
        ("seconds_per_byte", pa.float64()),
        ("intercept_stderr", pa.float64()),
        ("seconds_per_byte_stderr", pa.float64()),
        ("worst_relative_error", pa.float64()),
        ("bandwidth_bytes_per_second", pa.float64()),
        ("joules_per_byte", pa.float64()),
        ("joules_source", pa.string()),
    ]
)
SAMPLES = pa.schema(
    [
        ("tier", pa.string()),
        ("operation", pa.string()),
        ("kind", pa.string()),
        ("bytes", pa.int64()),
        ("n", pa.int64()),
        ("median_seconds", pa.float64()),
        ("p10_seconds", pa.float64()),
        ("p90_seconds", pa.float64()),
    ]
)
SKIPPED = pa.schema(
    [
        ("tier", pa.string()),
        ("operation", pa.string()),
        ("kind", pa.string()),
        ("bytes", pa.int64()),
        ("reason", pa.string()),
    ]
)


class UnknownTierCostError(LookupError):
    """The profile has no measured cost for this tier, operation and kind."""


@dataclass(frozen=True, eq=False)
class TierProfile:
    """Measured cost of each tier.

    Attributes:
        costs: One row per tier, operation ("get", "put") and kind of object: the line `intercept_seconds +
            seconds_per_byte * bytes` with standard errors, the bandwidth (1 / slope, null for a slope of 0), and joules
            per byte with their source ("measured" or "unavailable", then null). Puts are measured on bytes only.
        samples: What the lines were fitted to: n, median, 10th and 90th percentile in seconds at each size.
        skipped: What was not measured, with the reason.
        machine: Processor, cores and memory of the machine.
        rounds: Rounds over all tiers and sizes, without the discarded first one.
        seed: Seed of the order of the measurements.
    """

    costs: pa.Table
    samples: pa.Table
    skipped: pa.Table
    machine: str
    rounds: int
    seed: int

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

    def predict_seconds(self, tier: Tier, size: ArrayLike, kind: str = "table", operation: str = "get") -> np.ndarray:
        """Predict latencies: the line, corrected by what was measured at sizes near to this one.

        Caches and page faults bend the true curve (by up to a factor of two at 4 MiB), so the ratio of median to line
        is interpolated over the logarithm of the size. Beyond the measured sizes the ratio of the last one holds.

        Args:
            tier: Where the object is read from or written to.
            size: int[...], bytes of the encoded objects.
            kind: "bytes", "table" or "tensors"; a put is "bytes", whatever is written.
            operation: "get" or "put".

        Returns:
            float64[...] seconds, shaped like `size`.

        Raises:
            UnknownTierCostError: This was not measured; the message has the reason where there is one.
        """
        line = self.line_seconds(tier, size, kind, operation)
        samples = self._rows(tier, kind, operation, of=self.samples).sort_by("bytes")
        sizes = samples["bytes"].to_numpy()
        ratio = samples["median_seconds"].to_numpy() / self.line_seconds(tier, sizes, kind, operation)
        return np.asarray(line * np.interp(np.log2(np.maximum(size, 1)), np.log2(sizes), ratio))

    def line_seconds(self, tier: Tier, size: ArrayLike, kind: str = "table", operation: str = "get") -> np.ndarray:
        """The fitted line alone, `intercept_seconds + seconds_per_byte * size`; arguments as in `predict_seconds`.

        Raises:
            UnknownTierCostError: This was not measured; the message has the reason where there is one.
        """
        rows = self._rows(tier, kind, operation)
        if not rows.num_rows:
            reasons = self._rows(tier, kind, operation, of=self.skipped)["reason"].unique().to_pylist()
            why = "; ".join(reasons) or f"measured are {', '.join(self.tiers) or 'none'}"
            raise UnknownTierCostError(
                f"the profile has no cost of a {operation} of {kind} in {tier} ({why}); measure the profile again"
            )
        line = rows.to_pylist()[0]
        return np.asarray(line["intercept_seconds"] + line["seconds_per_byte"] * np.asarray(size, dtype=np.float64))

    def _rows(self, tier: Tier, kind: str, operation: str, of: pa.Table | None = None) -> pa.Table:
        table = self.costs if of is None else of
        wanted = (pc.field("tier") == str(tier)) & (pc.field("kind") == kind) & (pc.field("operation") == operation)
        return table.filter(wanted)

    def to_parts(self) -> Mapping[str, Part]:
        """Take the profile apart into three tables."""
        scalars: dict[str, Json] = {"machine": self.machine, "rounds": self.rounds, "seed": self.seed}
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
    energy: Callable[[], float | None] | None = None,
) -> TierProfile:
    """Measure get and put on every tier of a store, with real objects that are removed afterwards.

    Tiers, sizes, kinds and operations take turns in random order, round by round, so that a machine that slows down
    hits all of them alike. A size that does not fit beside what a tier holds is skipped and listed in `skipped`.
    Another process that measures the same store at the same time waits for its turn.

    Args:
        store: The store.
        sizes: Bytes per object, two different ones at least.
        repeats: Rounds; each adds up to eight samples per size.
        seed: Seed of the order and of the objects' content.
        progress: Called with (rounds done, rounds in all).
        energy: Cumulative joules of the machine (RAPL, NVML), None when the counter cannot be read. What the machine
            used in the meantime for other work is counted too. Without it joules are "unavailable", never estimated.

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
    tiers = [state.tier for state in store.tiers()]
    with FileLock(store.directory / "profile.lock"), scratch_objects(store, sizes, rng) as objects:
        bench = _Bench(store, energy)
        visits = [(tier, kind, size) for tier in tiers for kind, size in objects]
        visits += [(tier, "put", size) for tier in tiers for size in sorted(set(sizes))]
        for turn in range(repeats + 1):
            for index in rng.permutation(len(visits)):
                tier, what, size = visits[index]
                if what == "put":
                    bench.puts(tier, size)
                else:
                    bench.gets(tier, what, size, objects[what, size])
            if turn == 0:
                bench.forget_samples()
            if progress is not None:
                progress(turn + 1, repeats + 1)
    return bench.profile(rounds=repeats, seed=seed)


@dataclass
class _Bench:
    """Collects latencies and joules per (tier, operation, kind, bytes)."""

    store: TieredStore
    energy: Callable[[], float | None] | None
    seconds: defaultdict[tuple[str, str, str, int], list[np.ndarray]] = field(default_factory=lambda: defaultdict(list))
    joules: defaultdict[tuple[str, str, str], list[tuple[float | None, int]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    skipped: dict[tuple[str, str, str, int], str] = field(default_factory=dict)

    def gets(self, tier: Tier, kind: str, size: int, keys: list[str]) -> None:
        """Read the objects once each from the tier; they stay there only for this time.

        Where not all of them fit at once, those that do are read; with none it is the size that does not fit.
        """
        cell = (str(tier), "get", kind, size)
        if cell in self.skipped:
            return
        refused = dict(self.store.move(dict.fromkeys(keys, tier)).refused)
        held = [key for key in keys if key not in refused]
        if held:
            self._timed(cell, len(held), lambda: self.store.time_gets(held, tier))
            self.store.move(dict.fromkeys(held, Tier.L3))
        else:
            self.skipped[cell] = refused[keys[0]]

    def puts(self, tier: Tier, size: int) -> None:
        """Write objects of this size to the tier, one at a time; none stays."""
        cell = (str(tier), "put", "bytes", size)
        if cell in self.skipped:
            return
        try:
            self._timed(cell, PUTS_A_ROUND, lambda: self.store.time_puts([size] * PUTS_A_ROUND, tier))
        except (CapacityError, TierAbsentError) as error:
            self.skipped[cell] = str(error)

    def _timed(self, cell: tuple[str, str, str, int], count: int, measure: Callable[[], np.ndarray]) -> None:
        before = self.energy() if self.energy is not None else None
        self.seconds[cell].append(measure())
        after = self.energy() if self.energy is not None else None
        used = None if before is None or after is None else after - before
        self.joules[cell[:3]].append((used, count * cell[3]))

    def forget_samples(self) -> None:
        """Drop what was measured so far: the first round warms code paths, page cache and allocators."""
        self.seconds.clear()
        self.joules.clear()

    def profile(self, *, rounds: int, seed: int) -> TierProfile:
        """Summarise the samples and fit the lines."""
        samples = [_sample(*cell, np.concatenate(self.seconds[cell])) for cell in sorted(self.seconds)]
        costs = []
        for cell in sorted({cell[:3] for cell in self.seconds}):
            points = [row for row in samples if (row["tier"], row["operation"], row["kind"]) == cell]
            if len(points) >= 2:
                costs.append(_cost(cell, points, self.joules[cell]))
        skipped = [
            {"tier": cell[0], "operation": cell[1], "kind": cell[2], "bytes": cell[3], "reason": reason}
            for cell, reason in sorted(self.skipped.items())
        ]
        return TierProfile(
            costs=pa.Table.from_pylist(costs, schema=COSTS),
            samples=pa.Table.from_pylist(samples, schema=SAMPLES),
            skipped=pa.Table.from_pylist(skipped, schema=SKIPPED),
            machine=machine_name(),
            rounds=rounds,
            seed=seed,
        )


Row = dict[str, str | int | float | None]


def _sample(tier: str, operation: str, kind: str, size: int, seconds: np.ndarray) -> Row:
    p10, median, p90 = (float(value) for value in np.percentile(seconds, [10, 50, 90]))
    return {
        "tier": tier,
        "operation": operation,
        "kind": kind,
        "bytes": size,
        "n": len(seconds),
        "median_seconds": median,
        "p10_seconds": p10,
        "p90_seconds": p90,
    }


def _cost(cell: tuple[str, str, str], points: list[Row], joules: list[tuple[float | None, int]]) -> Row:
    table = pa.Table.from_pylist(points, schema=SAMPLES)
    fit = fit_latency(table["bytes"].to_numpy(), table["median_seconds"].to_numpy())
    used = [amount for amount, _ in joules if amount is not None]
    measured = len(used) == len(joules)
    return {
        "tier": cell[0],
        "operation": cell[1],
        "kind": cell[2],
        "intercept_seconds": fit.intercept_seconds,
        "seconds_per_byte": fit.seconds_per_byte,
        "intercept_stderr": fit.intercept_stderr,
        "seconds_per_byte_stderr": fit.seconds_per_byte_stderr,
        "worst_relative_error": fit.worst_relative_error,
        "bandwidth_bytes_per_second": 1 / fit.seconds_per_byte if fit.seconds_per_byte > 0 else None,
        "joules_per_byte": sum(used) / sum(size for _, size in joules) if measured else None,
        "joules_source": "measured" if measured else "unavailable",
    }


def machine_name() -> str:
    """Name the processor, its cores and the memory of this machine."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = names[0] if names else processor
    memory = psutil.virtual_memory().total / (1 << 30)
    return f"{processor}, {os.cpu_count()} cores, {memory:.1f} GiB"
