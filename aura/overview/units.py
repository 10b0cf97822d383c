"""Figures as people read them: always with their unit.

Belongs here: formatting of single figures. Does not: HTML (`markup`).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from aura.measure.history import MaterializationCost


def age(moment: datetime, now: datetime) -> str:
    """How long ago, in one or two units: "just now", "40 s ago", "3 d 4 h ago"."""
    seconds = int((now - moment).total_seconds())
    return "just now" if seconds < 1 else f"{span(timedelta(seconds=seconds))} ago"


def span(length: timedelta) -> str:
    """A length of time in its largest unit, and the next one for hours and days."""
    seconds = int(length.total_seconds())
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min" if minutes else f"{seconds} s"


def size(count: float) -> str:
    """Bytes in binary units, three significant digits."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024 or unit == "GiB":
            return f"{count:.0f} B" if unit == "B" else f"{significant(count)} {unit}"
        count /= 1024
    raise AssertionError


def seconds(value: float) -> str:
    """Seconds, three significant digits."""
    return f"{significant(value)} s"


def joules(value: float) -> str:
    """Joules, three significant digits."""
    return f"{significant(value)} J"


def significant(value: float) -> str:
    """Three significant digits, never an exponent, thousands separated."""
    digits = 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    return f"{value:,.{digits}f}"


def energy(cost: MaterializationCost) -> str:
    """Joules with their source; a source that gave none says so."""
    return cost.energy_source if cost.joules is None else f"{joules(cost.joules)} {cost.energy_source}"
