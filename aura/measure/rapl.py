"""The energy counters of the processor, read from the kernel's powercap files (RAPL).

Belongs here: which zones count, and turning counters that wrap around into energy that only grows.
Does not: what a window of work used (see `aura.measure.energy`).
The files are described in the kernel's Documentation/power/powercap/powercap.rst.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

POWERCAP_ROOT = Path("/sys/class/powercap")

# `intel-rapl:0` is a package, `intel-rapl:0:2` a domain inside it. AMD processors appear under the same names.
# `intel-rapl-mmio:*` repeats the packages through another register and would count them twice.
_ZONE = re.compile(r"intel-rapl:\d+(:\d+)?")

_JOULES_PER_MICROJOULE = 1e-6

_READABLE_BY_ROOT_ONLY = (
    "energy_uj is readable by root only (since Linux 5.10, against the PLATYPUS side channel); allow it with "
    "`sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj` (or a udev rule, to survive a reboot)"
)


class WrappingCounter:
    """Energy seen so far by a counter that starts again from zero at its range.

    The driver reports the highest value as the range, one energy unit (about 61 uJ) below the true modulus, so each
    wrap-around is short by at most one unit. Correct as long as it advances at least once per wrap-around.
    """

    def __init__(self, *, first_uj: int, range_uj: int) -> None:
        """Start at zero energy.

        Args:
            first_uj: The counter's value now, in microjoules.
            range_uj: The value at which it starts again from zero, in microjoules.
        """
        self._last_uj = first_uj
        self._range_uj = range_uj
        self.total_uj = 0

    def advance(self, reading_uj: int) -> None:
        """Add what was used since the last reading.

        Args:
            reading_uj: The counter's value now, in microjoules; below the last one only after a wrap-around.
        """
        wrapped = self._range_uj if reading_uj < self._last_uj else 0
        self.total_uj += reading_uj - self._last_uj + wrapped
        self._last_uj = reading_uj


@dataclass(frozen=True)
class _Zone:
    energy_file: Path
    counter: WrappingCounter


class PowercapZones:
    """Package and memory zones of this machine, as joules that only grow.

    Left out, so that nothing counts twice: `core` and `uncore`, which are parts of their package, and `psys`, which
    contains the packages. A package does not contain its memory.

    While a window is open a daemon thread reads the counters once per half of the shortest time in which one can wrap
    around (range / `max_zone_watts` / 2: 131 s for the usual 262 kJ at 1000 W), so that no wrap-around is missed
    however long the window is. The thread ends by itself when it wakes and no window is open.

    Attributes:
        problems: Why zones that exist, or all of them, are not among the readings; grows when one stops to answer.
        readings: How often the zones have been read.
    """

    def __init__(self, root: Path = POWERCAP_ROOT, *, max_zone_watts: float = 1000.0) -> None:
        """Find the zones and read them once.

        Args:
            root: The powercap class directory.
            max_zone_watts: A power that no zone exceeds for long, in watts. The default is twice the thermal design
                power of the largest sockets.
        """
        self.problems: list[str] = []
        self.readings = 0
        self._lock = threading.Lock()
        self._open_windows = 0
        self._sampler: threading.Thread | None = None
        self._wake = threading.Event()
        self._zones: dict[str, _Zone] = {}
        shortest_range_j = float("inf")
        for directory in sorted(root.glob("intel-rapl:*")):
            if _ZONE.fullmatch(directory.name):
                shortest_range_j = min(shortest_range_j, self._add(directory))
        if not self._zones and not self.problems:
            self.problems.append(
                f"no RAPL zones under {root} (a virtual machine, a processor without RAPL, or the kernel module "
                "intel_rapl_msr is not loaded)"
            )
        self._interval_seconds = shortest_range_j / max_zone_watts / 2

    def _add(self, directory: Path) -> float:
        """Add a zone if it counts. Returns its range in joules, infinite when it was not added."""
        try:
            domain = _domain(directory)
            if domain is None:
                return float("inf")
            first_uj = _read_integer(directory / "energy_uj")
            range_uj = _read_integer(directory / "max_energy_range_uj")
        except (OSError, ValueError) as error:
            self.problems.append(_problem(directory, error))
            return float("inf")
        if range_uj <= 0:
            self.problems.append(
                f"{directory.name}: max_energy_range_uj is {range_uj}, a wrap-around could not be told"
            )
            return float("inf")
        self._zones[domain] = _Zone(directory / "energy_uj", WrappingCounter(first_uj=first_uj, range_uj=range_uj))
        return range_uj * _JOULES_PER_MICROJOULE

    def open_window(self) -> Mapping[str, float]:
        """Read the zones and keep reading them until the matching `close_window`.

        Returns:
            Joules by domain ("package-0", "dram-0") since this object was made.
        """
        with self._lock:
            self._open_windows += 1
            if self._zones and (self._sampler is None or not self._sampler.is_alive()):
                self._sampler = threading.Thread(target=self._sample, name="aura-rapl", daemon=True)
                self._sampler.start()
            return self._read()

    def close_window(self) -> Mapping[str, float]:
        """Read the zones at the end of a window.

        Returns:
            Joules by domain since this object was made; a zone that stopped to answer is absent.
        """
        with self._lock:
            self._open_windows -= 1
            return self._read()

    def _read(self) -> dict[str, float]:
        for domain, zone in list(self._zones.items()):
            try:
                zone.counter.advance(_read_integer(zone.energy_file))
            except (OSError, ValueError) as error:
                # A later reading could have missed a wrap-around, so the zone is gone for good.
                self.problems.append(_problem(zone.energy_file.parent, error))
                del self._zones[domain]
        self.readings += 1
        return {domain: zone.counter.total_uj * _JOULES_PER_MICROJOULE for domain, zone in self._zones.items()}

    def _sample(self) -> None:
        while True:
            self._wake.wait(self._interval_seconds)
            with self._lock:
                if self._open_windows == 0:
                    self._sampler = None
                    return
                self._read()


def _domain(directory: Path) -> str | None:
    """Name of a zone that counts: "package-0", "dram-0"; None for a zone that another one contains."""
    name = (directory / "name").read_text().strip()
    if name.startswith("package-"):
        return name
    if name == "dram":
        package = directory.with_name(directory.name.rpartition(":")[0])
        return (package / "name").read_text().strip().replace("package", "dram", 1)
    return None


def _read_integer(path: Path) -> int:
    return int(path.read_text())


def _problem(directory: Path, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return f"{directory.name}: {_READABLE_BY_ROOT_ONLY}"
    return f"{directory.name}: {error}"
