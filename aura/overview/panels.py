"""The state of a project as text for a terminal: machine, tiers, events, assets.

Belongs here: lines and tables. Does not: reading, screens (`top`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from rich import box
from rich.table import Table
from rich.text import Text

from aura.overview import units
from aura.overview.assets import AssetRow, Freshness
from aura.overview.event_log import TopicFigures
from aura.overview.machine import Load
from aura.overview.readings import Reading
from aura.overview.stored import TierFigures

BAR = 24
"""Characters of a bar."""

SHADES = "▁▂▃▄▅▆▇█"
COLOURS = {
    Freshness.FRESH: "green",
    Freshness.MADE: "green",
    Freshness.LATE: "yellow",
    Freshness.NEVER: "bright_black",
    Freshness.UNKNOWN: "bright_black",
}

SILENT_SECONDS = 5.0
"""A source that takes longer to answer is said to give no answer."""

APART = timedelta(seconds=10)
"""What was read further apart than this is not of one time."""


def absence(reading: Reading[object]) -> str | None:
    """Why there are no figures, with the remedy; None if there are."""
    if reading.value is not None:
        return None
    return reading.error or f"no answer for {reading.waited_seconds:.0f} s"


def is_silent(reading: Reading[object]) -> bool:
    """Whether its source gives no answer."""
    return reading.waited_seconds > SILENT_SECONDS


def read_at(reading: Reading[object]) -> str:
    """When the figures were read, on the clock of this machine, and whether their source has fallen silent since."""
    parts = [f"no answer for {reading.waited_seconds:.0f} s"] if is_silent(reading) else []
    if reading.value is not None:
        parts.append(f"as of {reading.taken_at.astimezone():%H:%M:%S}")
    return ", ".join(parts)


def read_at_each(readings: Mapping[str, Reading[object]]) -> str:
    """When several things were read: one time if all were at about the same, else one for each."""
    moments = [reading.taken_at for reading in readings.values() if reading.value is not None]
    together = len(moments) == len(readings) and max(moments) - min(moments) <= APART
    if together and not any(map(is_silent, readings.values())):
        return read_at(min(readings.values(), key=lambda reading: reading.taken_at))
    return "; ".join(f"{name} {said}" for name, reading in readings.items() if (said := read_at(reading)))


def remarks(errors: Mapping[str, str]) -> list[Text]:
    """What is not there, each reason once."""
    return [Text(reason, "yellow") for reason in dict.fromkeys(errors.values())]


def machine_panel(load: Load, before: Sequence[Load], width: int) -> Text:
    """The load now, and the processor and memory over all the samples before, the newest at the right."""
    processor = columns([(each.taken_at, each.processor) for each in before], width)
    memory = columns([(each.taken_at, each.memory_used_bytes / each.memory_bytes) for each in before], width)
    disk = "unavailable"
    if load.disk_read_rate is not None and load.disk_write_rate is not None:
        disk = f"{units.size(load.disk_read_rate)}/s read, {units.size(load.disk_write_rate)}/s written"
    return Text.assemble(
        ("processor ", "bold"),
        f"{100 * load.processor:5.1f} % of {load.cores} cores  ",
        (spark(processor), "cyan"),
        ("\nmemory    ", "bold"),
        f"{units.size(load.memory_used_bytes)} of {units.size(load.memory_bytes)}  ",
        (spark(memory), "magenta"),
        ("\ndisk      ", "bold"),
        disk,
        ("\nnetwork   ", "bold"),
        f"{units.size(load.network_in_rate)}/s in, {units.size(load.network_out_rate)}/s out",
    )


def tiers_panel(tiers: Iterable[TierFigures]) -> Table:
    """One line per tier."""
    table = _table("tier", "used", "", "objects", "gets", "recent", "mean get")
    for tier in tiers:
        state = tier.state
        share = state.used_bytes / state.capacity_bytes if state.capacity_bytes else None
        capacity = "of the disk" if state.capacity_bytes is None else f"of {units.size(state.capacity_bytes)}"
        table.add_row(
            f"{state.tier} {state.tier.label}",
            f"{units.size(state.used_bytes)} {capacity}",
            "" if share is None else bar(share),
            f"{state.objects:,}",
            f"{state.gets:,}",
            f"{tier.recent_gets:,} in {tier.recent_seconds:.0f} s" if tier.recent_seconds else "",
            _latency(tier),
        )
    return table


def events_panel(topics: Iterable[TopicFigures], now: datetime) -> Table:
    """One line per topic that has records."""
    table = _table("topic", "records", "latest", "lag", "dead")
    for topic in topics:
        if topic.published:
            table.add_row(
                topic.name,
                f"{topic.records:,}",
                "" if topic.latest_at is None else units.age(topic.latest_at, now),
                ", ".join(f"{behind:,}" for behind in topic.lag.values()),
                Text(f"{topic.dead:,}", "red") if topic.dead else "0",
            )
    return table


def assets_panel(rows: Iterable[AssetRow], now: datetime) -> Table:
    """One line per asset that is there, or whose last run came to nothing."""
    table = _table("asset", "source", "state", "age", "wall", "CPU", "energy", "stored", "checks")
    for row in rows:
        if not row.tried:
            continue
        state, cost = row.freshness(now), row.computed
        failed = [name for name, passed in row.checks.items() if not passed]
        table.add_row(
            row.asset,
            row.partition or "",
            Text(row.setback or str(state), "red" if row.setback in {"failed", "refused"} else COLOURS[state]),
            "" if row.succeeded_at is None else units.age(row.succeeded_at, now),
            "" if cost is None else units.seconds(cost.wall_seconds),
            "" if cost is None else units.seconds(cost.cpu_seconds),
            "" if cost is None else units.energy(cost),
            "" if row.stored is None else f"{units.size(row.stored.bytes)} {' '.join(row.stored.tier_bytes)}",
            Text(", ".join(failed), "red") if failed else f"{len(row.checks)} passed",
        )
    return table


def columns(samples: Sequence[tuple[datetime, float]], width: int) -> list[float]:
    """The means of samples over equal spans of time, at most `width` of them; a span without samples keeps the last."""
    if len(samples) <= width:
        return [value for _, value in samples]
    start, end = samples[0][0], samples[-1][0]
    span = (end - start) / width
    found: list[list[float]] = [[] for _ in range(width)]
    for at, value in samples:
        found[min(width - 1, int((at - start) / span))].append(value)
    means: list[float] = []
    for values in found:
        means.append(sum(values) / len(values) if values else means[-1])
    return means


def spark(shares: Sequence[float]) -> str:
    """Shares from 0 to 1 as a line of blocks."""
    return "".join(SHADES[round(min(1.0, max(0.0, share)) * (len(SHADES) - 1))] for share in shares)


def bar(share: float) -> Text:
    """A share from 0 to 1 as a bar."""
    full = round(min(1.0, max(0.0, share)) * BAR)
    return Text.assemble(("━" * full, "blue"), ("━" * (BAR - full), "bright_black"))


def _latency(tier: TierFigures) -> str:
    if tier.recent_gets <= 0 or tier.recent_get_seconds is None:
        return ""
    return f"{units.significant(1e6 * tier.recent_get_seconds / tier.recent_gets)} µs"


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True)
    for name in columns:
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    return table
