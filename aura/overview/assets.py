"""One row per asset and partition: how fresh, what it cost, what it holds, where it lives.

Belongs here: putting together what MLflow and the store say. Does not: reading them, drawing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from aura.measure.history import MaterializationCost
from aura.overview.costs import CostBook, Standing, ended_at, outcome, succeeded
from aura.overview.stored import StoredValue

FRESH_FOR = timedelta(days=1)
"""A value that nobody has found up to date for longer is late."""

_GROUPS = ("corpus", "embeddings", "joint", "search", "topology", "drift", "experts", "language", "tiers")
_CHECK = "check_"

BY_HAND = frozenset({"language", "notebooks", "requests"})
"""Groups of which nothing is made unless somebody asks: what is there has no limit to be late against."""


class Freshness(StrEnum):
    """State of an asset against FRESH_FOR; unknown where something is published that no known run made.

    What is made by hand only is made, or never was.
    """

    FRESH = "fresh"
    MADE = "made"
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
        setback: The last materialization, if it did not succeed: "failed", "refused" by a check, or "skipped" since
            there was nothing to make.
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
        if self.group in BY_HAND:
            return Freshness.MADE
        return Freshness.FRESH if now - self.current_at <= FRESH_FOR else Freshness.LATE

    @property
    def tried(self) -> bool:
        """Whether anybody ever set out to make it here: something is published, or a run of it is known."""
        return bool(self.stored or self.succeeded_at or self.setback)

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
    standings = book.standings
    partitioned = {asset for asset, partition in (*published, *standings) if partition is not None}
    wanted = {
        *published,
        *((asset, partition) for asset, partition in standings if partition is None),
        *((asset, partition) for asset in partitioned for partition in partitions),
    }
    listings = {partition: found for (_, partition), found in standings.items() if found.last.group == "corpus"}
    rows = [_row(key, standings.get(key), published.get(key), listings.get(key[1])) for key in wanted]
    groups = {asset: found.last.group for (asset, _), found in standings.items()}
    return sorted(rows, key=lambda row: _order(row, groups.get(row.asset, "")))


def _row(
    key: tuple[str, str | None], standing: Standing | None, stored: StoredValue | None, listing: Standing | None
) -> AssetRow:
    asset, partition = key
    if standing is None:
        return AssetRow(asset, partition, "", None, None, None, None, None, {}, stored)
    last = standing.last
    # What was skipped last has been taken back: whatever succeeded before is not there any more.
    there = None if outcome(last) == "skipped" else standing.succeeded
    computed = None if there is None else standing.computed or there
    return AssetRow(
        asset=asset,
        partition=partition,
        group=last.group,
        succeeded_at=None if there is None else ended_at(there),
        current_at=None if there is None else _current_at(ended_at(there), listing),
        computed=computed,
        reuse=None if there is computed else there,
        setback=None if succeeded(last) else outcome(last),
        checks={} if computed is None else _checks(computed),
        stored=stored,
    )


def _current_at(made: datetime, listing: Standing | None) -> datetime:
    """When a value was last known to be what its source gives, from when it was made and how the source was listed."""
    if listing is None or listing.succeeded is None:
        return made
    if listing.changed is not None and made < ended_at(listing.changed):
        return made
    return max(made, ended_at(listing.succeeded))


def _checks(run: MaterializationCost) -> Mapping[str, bool]:
    return {name.removeprefix(_CHECK): value == 1.0 for name, value in run.figures.items() if name.startswith(_CHECK)}


def _order(row: AssetRow, group: str) -> tuple[bool, str, int, str]:
    place = _GROUPS.index(group) if group in _GROUPS else len(_GROUPS)
    return (row.partition is None, row.partition or "", place, row.asset)
