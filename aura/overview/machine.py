"""The load of this machine now, sampled when somebody looks.

Belongs here: processor, memory, disk and network of the machine. Does not: GPUs, history on disk.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import psutil

KEPT = 3600
"""Samples that stay in memory."""

GAP_SECONDS = 90.0
"""Longest time between two looks over which a mean is called the load or a rate; nothing is drawn over a longer one."""


@dataclass(frozen=True)
class Load:
    """One sample; rates are means since the sample before.

    Attributes:
        taken_at: When, in UTC.
        processor: Busy share of all cores, 0 to 1.
        cores: How many there are.
        memory_used_bytes: What is not available to a program that starts now.
        memory_bytes: All of it.
        disk_read_rate: Bytes a second; None where the system does not say.
        disk_write_rate: The same.
        network_in_rate: Bytes a second, all interfaces but loopback.
        network_out_rate: The same.
    """

    taken_at: datetime
    processor: float
    cores: int
    memory_used_bytes: int
    memory_bytes: int
    disk_read_rate: float | None
    disk_write_rate: float | None
    network_in_rate: float
    network_out_rate: float


@dataclass(frozen=True)
class _Counters:
    at: float
    busy: float
    total: float
    disk: tuple[int, int] | None
    network: tuple[int, int]


class MachineView:
    """Samples this machine. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """The rates of the first sample count from here."""
        self._clock = clock
        self._lock = threading.Lock()
        self._samples: deque[Load] = deque(maxlen=KEPT)
        self._before = self._counters()

    def sample(self, at_least_seconds: float) -> Load | None:
        """The load since the sample before; the same one again before so many seconds have passed.

        None where that is the first one, or the first after nobody has looked for `GAP_SECONDS`.
        """
        with self._lock:
            now = self._counters()
            waited = now.at - self._before.at
            if waited < at_least_seconds:
                return self._samples[-1] if self._samples else None
            if waited > GAP_SECONDS:
                # Nobody has looked meanwhile: a mean over that would be no load now.
                self._before = now
                return None
            self._samples.append(_load(self._before, now))
            self._before = now
            return self._samples[-1]

    def samples(self, window: timedelta | None) -> list[Load]:
        """What was sampled within the window, the oldest first."""
        since = None if window is None else datetime.now(UTC) - window
        with self._lock:
            return [each for each in self._samples if since is None or each.taken_at >= since]

    def _counters(self) -> _Counters:
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        disk = psutil.disk_io_counters()
        interfaces = {name: each for name, each in psutil.net_io_counters(pernic=True).items() if name != "lo"}
        return _Counters(
            at=self._clock(),
            busy=sum(times[:8]) - idle,
            total=sum(times[:8]),
            disk=None if disk is None else (disk.read_bytes, disk.write_bytes),
            network=(
                sum(each.bytes_recv for each in interfaces.values()),
                sum(each.bytes_sent for each in interfaces.values()),
            ),
        )


def _load(before: _Counters, now: _Counters) -> Load:
    seconds = max(now.at - before.at, 1e-9)
    memory = psutil.virtual_memory()
    rates = None
    if before.disk is not None and now.disk is not None:
        rates = [max(0, after - earlier) / seconds for earlier, after in zip(before.disk, now.disk, strict=True)]
    total = now.total - before.total
    return Load(
        taken_at=datetime.now(UTC),
        processor=min(1.0, max(0.0, (now.busy - before.busy) / total)) if total > 0 else 0.0,
        cores=psutil.cpu_count() or 1,
        memory_used_bytes=memory.total - memory.available,
        memory_bytes=memory.total,
        disk_read_rate=None if rates is None else rates[0],
        disk_write_rate=None if rates is None else rates[1],
        network_in_rate=max(0, now.network[0] - before.network[0]) / seconds,
        network_out_rate=max(0, now.network[1] - before.network[1]) / seconds,
    )
