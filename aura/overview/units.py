"""Figures as people read them: always with their unit.

Belongs here: formatting of single figures. Does not: HTML (`markup`).
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from aura.measure.history import MaterializationCost

_BINARY = ("KiB", "MiB", "GiB", "TiB", "PiB")


CLOCKS_APART = timedelta(minutes=1)
"""By so much the clocks of two machines may differ before anybody is told."""


def age(moment: datetime, now: datetime) -> str:
    """How long ago, in one or two units: "just now", "40 s ago", "3 d 4 h ago".

    Of a moment that is yet to come by more than `CLOCKS_APART`, by how much: the clock that gave it is wrong, or this
    one is.
    """
    seconds = int((now - moment).total_seconds())
    if moment - now > CLOCKS_APART:
        return f"{span(moment - now)} ahead of this clock"
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
    if round(abs(count)) < 1024:
        return f"{count:.0f} B"
    power = next((power for power in range(1, len(_BINARY)) if round(abs(count) / 1024**power) < 1024), len(_BINARY))
    return f"{significant(count / 1024**power)} {_BINARY[power - 1]}"


def seconds(value: float) -> str:
    """Seconds, three significant digits."""
    return f"{significant(value)} s"


def joules(value: float) -> str:
    """Joules, three significant digits."""
    return f"{significant(value)} J"


def significant(value: float) -> str:
    """Three significant digits, all digits before the point, never an exponent, thousands separated; zero is "0"."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}"
    # The exponent after rounding: 9.996 is 10.0.
    exponent = int(f"{value:.2e}".partition("e")[2])
    return f"{value:,.{max(0, 2 - exponent)}f}"


def energy(cost: MaterializationCost) -> str:
    """Joules with their source; a source that gave none says so."""
    return cost.energy_source if cost.joules is None else f"{joules(cost.joules)} {cost.energy_source}"
