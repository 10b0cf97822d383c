"""One row per asset and partition: how fresh, what it cost, what it holds, where it lives.

Belongs here: putting together what MLflow and the store say. Does not: reading them, drawing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from aura.measure.history import MaterializationCost
from aura.overview.costs import CostBook
from aura.overview.stored import StoredValue

FRESH_FOR = timedelta(days=1)
"""A value that nobody has found up to date for longer is late."""

_GROUPS = ("corpus", "embeddings", "joint", "search", "topology", "drift", "experts", "language", "tiers")
_CHECK = "check_"
_CHANGES = ("added", "changed", "removed")
"""Figures of a listing; all zero where it found what was there before."""


class Freshness(StrEnum):
    """State of an asset against FRESH_FOR; unknown where something is published that no known run made."""

    FRESH = "fresh"
    LATE = "late"
    NEVER = "never"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class AssetRow:
    """One asset in one partition.

    Attributes:
        asset: Its name.
        partition: Its partition, None without.
        group: Its group, "" if no run is known.
        succeeded_at: End of the last materialization that succeeded, in UTC; reusing what is there is one. None: never.
        current_at: When it was last found up to date: then, or when its source was listed later without a change.
        computed: The last materialization that succeeded and computed something, else that which reused.
        reuse: The last materialization that succeeded, if it came after `computed` and reused its value.
        setback: The last materialization, if it did not succeed: "failed" or "refused" by a check.
        checks: Whether each check passed at the last time that the value was computed.
        stored: What is published; None if nothing is, or the store was not there to ask.
    """

    asset: str
    partition: str | None
    group: str
    succeeded_at: datetime | None
    current_at: datetime | None
    computed: MaterializationCost | None
    reuse: MaterializationCost | None
    setback: str | None
    checks: Mapping[str, bool]
    stored: StoredValue | None

    def freshness(self, now: datetime) -> Freshness:
        """Its state at this time."""
        if self.current_at is None:
            return Freshness.NEVER if self.stored is None else Freshness.UNKNOWN
        return Freshness.FRESH if now - self.current_at <= FRESH_FOR else Freshness.LATE

    @property
    def rows(self) -> int | None:
        """How many things the value holds, as its asset counted them; else the rows of its tables; None if unknown."""
        if self.computed is not None and "rows" in self.computed.figures:
            return int(self.computed.figures["rows"])
        return None if self.stored is None else self.stored.rows


def asset_rows(book: CostBook, stored: Sequence[StoredValue], partitions: Sequence[str]) -> list[AssetRow]:
    """Every asset that was materialized or is published, in every partition that it should have.

    Args:
        book: The costs.
        stored: The published values; none if the store is not there.
        partitions: The registered sources. An asset that has partitions should have each of them; runs of a partition
            that is neither registered nor published are of a source that was forgotten, and left out.

    Returns:
        By partition, those without one last; then along the graph.
    """
    published = {(value.name, value.partition): value for value in stored}
    runs: dict[tuple[str, str | None], list[MaterializationCost]] = {}
    for run in book.runs:
        runs.setdefault((run.asset, run.partition), []).append(run)
    known = {*published, *runs}
    partitioned = {asset for asset, partition in known if partition is not None}
    wanted = {
        *published,
        *((asset, partition) for asset, partition in runs if partition is None),
        *((asset, partition) for asset in partitioned for partition in partitions),
    }
    listings = {partition: found for (_, partition), found in runs.items() if found[-1].group == "corpus"}
    rows = [_row(key, runs.get(key, []), published.get(key), listings.get(key[1], [])) for key in wanted]
    groups = {run.asset: run.group for run in book.runs}
    return sorted(rows, key=lambda row: _order(row, groups.get(row.asset, "")))


def _row(
    key: tuple[str, str | None],
    runs: Sequence[MaterializationCost],
    stored: StoredValue | None,
    listings: Sequence[MaterializationCost],
) -> AssetRow:
    # What was skipped last has been taken back: whatever succeeded before is not there any more.
    skipped = bool(runs) and outcome(runs[-1]) == "skipped"
    succeeded = [] if skipped else [run for run in runs if _succeeded(run)]
    made = [run for run in succeeded if not run.reused]
    computed = made[-1] if made else succeeded[-1] if succeeded else None
    last = succeeded[-1] if succeeded else None
    return AssetRow(
        asset=key[0],
        partition=key[1],
        group=runs[-1].group if runs else "",
        succeeded_at=None if last is None else ended_at(last),
        current_at=None if last is None else _current_at(ended_at(last), [run for run in listings if _succeeded(run)]),
        computed=computed,
        reuse=None if last is computed else last,
        setback=outcome(runs[-1]) if runs and not _succeeded(runs[-1]) else None,
        checks={} if computed is None else _checks(computed),
        stored=stored,
    )


def _current_at(made: datetime, listings: Sequence[MaterializationCost]) -> datetime:
    """When a value was last known to be what its source gives, from when it was made and how the source was listed."""
    changes = [run for run in listings if any(run.figures.get(name, 0) for name in _CHANGES)]
    if not listings or (changes and made < ended_at(changes[-1])):
        return made
    return max(made, ended_at(listings[-1]))


def ended_at(run: MaterializationCost) -> datetime:
    """When a materialization ended, in UTC."""
    return run.started_at + timedelta(seconds=run.wall_seconds)


def outcome(run: MaterializationCost) -> str:
    """In a word: made, reused, refused by a check, skipped, or failed."""
    return run.tags.get("outcome", "made" if run.succeeded else "failed")


def _succeeded(run: MaterializationCost) -> bool:
    """A step that a blocking check refused, or that had nothing to make, ended well but materialized nothing."""
    return run.succeeded and outcome(run) not in {"refused", "skipped"}


def _checks(run: MaterializationCost) -> Mapping[str, bool]:
    return {name.removeprefix(_CHECK): value == 1.0 for name, value in run.figures.items() if name.startswith(_CHECK)}


def _order(row: AssetRow, group: str) -> tuple[bool, str, int, str]:
    place = _GROUPS.index(group) if group in _GROUPS else len(_GROUPS)
    return (row.partition is None, row.partition or "", place, row.asset)
