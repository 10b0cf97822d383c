"""Peak resident memory of windows of work that may nest and overlap.

Belongs here: the two ways to know it. Does not: the other figures of a window (see `aura.measure.cost`).

Children are not included: the kernel keeps only one figure for all children ever reaped, and a child started by vfork
(what `subprocess` does) inherits the peak of its parent.
"""

from __future__ import annotations

import functools
import threading
from pathlib import Path
from typing import Literal, Protocol

import psutil

PeakMemoryMethod = Literal["VmHWM", "sampled RSS"]

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
# Value 5 resets the peak resident set size, see proc_pid_clear_refs(5).
_RESET_HIGH_WATER_MARK = "5"

_choice = threading.Lock()


class PeakWindow:
    """The peak of one window so far, in bytes."""

    def __init__(self) -> None:
        self.peak_bytes = 0


class PeakMemory(Protocol):
    """A way to know the peak resident memory of this process in a window."""

    @property
    def method(self) -> PeakMemoryMethod:
        """How the peak is known."""
        ...

    def open(self) -> PeakWindow:
        """Open a window."""
        ...

    def close(self, window: PeakWindow) -> int:
        """Close a window and return its peak in bytes."""
        ...


class HighWaterMark:
    """Exact: the kernel's own high-water mark (VmHWM), reset at the start of each window.

    Before a reset the mark is folded into every open window, so an inner window does not hide the peak of an outer one.
    Memory taken and given back by another thread in the microseconds between the two is not seen.
    """

    method: PeakMemoryMethod = "VmHWM"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._windows: list[PeakWindow] = []

    def open(self) -> PeakWindow:
        """Open a window: fold the mark into the open ones, then reset it."""
        window = PeakWindow()
        with self._lock:
            if self._windows:
                self._fold()
            _CLEAR_REFS.write_text(_RESET_HIGH_WATER_MARK)
            self._windows.append(window)
        return window

    def close(self, window: PeakWindow) -> int:
        """Close a window and return its peak in bytes."""
        with self._lock:
            self._fold()
            self._windows.remove(window)
        return window.peak_bytes

    def _fold(self) -> None:
        mark = _high_water_mark_bytes()
        for window in self._windows:
            window.peak_bytes = max(window.peak_bytes, mark)


class SampledPeak:
    """A lower bound where the mark cannot be reset (macOS, some sandboxes): resident memory seen by a thread.

    The thread reads every `interval_seconds` while a window is open and ends by itself afterwards.
    """

    method: PeakMemoryMethod = "sampled RSS"

    def __init__(self, *, interval_seconds: float = 0.01) -> None:
        """Sample nothing until a window opens.

        Args:
            interval_seconds: Time between two readings; shorter peaks may be missed.
        """
        self._interval_seconds = interval_seconds
        self._lock = threading.Lock()
        self._windows: list[PeakWindow] = []
        self._sampler: threading.Thread | None = None
        self._pause = threading.Event()

    def open(self) -> PeakWindow:
        """Open a window with a reading."""
        window = PeakWindow()
        with self._lock:
            self._windows.append(window)
            self._fold()
            if self._sampler is None or not self._sampler.is_alive():
                self._sampler = threading.Thread(target=self._sample, name="aura-peak-memory", daemon=True)
                self._sampler.start()
        return window

    def close(self, window: PeakWindow) -> int:
        """Close a window with a reading and return its peak in bytes."""
        with self._lock:
            self._fold()
            self._windows.remove(window)
        return window.peak_bytes

    def _fold(self) -> None:
        resident = int(psutil.Process().memory_info().rss)
        for window in self._windows:
            window.peak_bytes = max(window.peak_bytes, resident)

    def _sample(self) -> None:
        while True:
            self._pause.wait(self._interval_seconds)
            with self._lock:
                if not self._windows:
                    self._sampler = None
                    return
                self._fold()


def process_peak_memory() -> PeakMemory:
    """The best way that this process has; always the same object, since all windows share one mark."""
    with _choice:
        return _choose()


@functools.cache
def _choose() -> PeakMemory:
    try:
        _CLEAR_REFS.write_text(_RESET_HIGH_WATER_MARK)
        _high_water_mark_bytes()
    except OSError:
        return SampledPeak()
    return HighWaterMark()


def _high_water_mark_bytes() -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{_STATUS} has no line VmHWM; this kernel does not keep a peak")
