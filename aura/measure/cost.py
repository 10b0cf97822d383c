"""The one context manager that measures a window of work.

Belongs here: wall and CPU time, peak memory and energy of a window, as a value and as an OpenTelemetry span.
Does not: where the figures are kept (see `aura.measure.recorder`).
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from opentelemetry import trace

from aura.measure.energy import Energy, EnergyMeter
from aura.measure.peak_memory import PeakMemoryMethod, process_peak_memory

Attribute = str | bool | int | float

# Resolves to the provider that is configured when a span starts; without one a span costs 7 us.
_TRACER = trace.get_tracer("aura.measure")


class MeasurementOpenError(RuntimeError):
    """The figures of a window were read before it ended."""


@dataclass(frozen=True)
class Cost:
    """What a window of work cost.

    Attributes:
        started_at: When it started, in UTC.
        wall_seconds: Length of the window.
        cpu_seconds: User and system time of all threads of this process, and of the children it reaped in the window.
            Windows that overlap in several threads see each other's.
        peak_memory_bytes: Highest resident memory of this process in the window; what was resident before counts.
        energy: Joules of the machine in the window, with their source.
        peak_memory_method: "VmHWM" (the kernel's mark, exact) or "sampled RSS" (a lower bound).
    """

    started_at: datetime
    wall_seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    energy: Energy
    peak_memory_method: PeakMemoryMethod

    def __post_init__(self) -> None:
        if self.started_at.tzinfo is None:
            raise ValueError(f"started_at has a time zone, got {self.started_at!r}; use datetime.now(UTC)")


class Measurement:
    """A window being measured; it has its cost once the window has ended, also when the work raised.

    Attributes:
        subject: What is measured.
    """

    def __init__(self, subject: str) -> None:
        """Start without figures.

        Args:
            subject: What is measured, for example an asset's name.
        """
        self.subject = subject
        self._cost: Cost | None = None

    @property
    def cost(self) -> Cost:
        """The figures.

        Raises:
            MeasurementOpenError: If the window has not ended.
        """
        if self._cost is None:
            raise MeasurementOpenError(f"{self.subject!r} is still being measured; read its cost after the with block")
        return self._cost

    def close(self, cost: Cost) -> None:
        """Set the figures."""
        self._cost = cost


def _utc_now() -> datetime:
    return datetime.now(UTC)


@contextmanager
def measure(
    subject: str,
    *,
    meter: EnergyMeter,
    attributes: Mapping[str, Attribute] | None = None,
    clock: Callable[[], datetime] = _utc_now,
    tracer: trace.Tracer = _TRACER,
) -> Iterator[Measurement]:
    """Measure the body of a with statement. May be nested.

    The window is also a span named after the subject, with the figures as attributes `aura.*` and an exception of the
    body as its event.

    Args:
        subject: What is measured, for example an asset's name.
        meter: Where joules come from, see `aura.measure.energy.open_meter`.
        attributes: Further attributes of the span.
        clock: Tells the time at which the window starts, with a time zone.
        tracer: Where the span goes; by default the provider of `aura.measure.tracing.configure_tracing`.

    Yields:
        The measurement, whose cost can be read after the block, also if the body raised.
    """
    measurement = Measurement(subject)
    memory = process_peak_memory()
    with tracer.start_as_current_span(subject, attributes=attributes) as span:
        started_at = clock()
        energy_window = meter.begin()
        memory_window = memory.open()
        cpu_before = _cpu_seconds()
        wall_before = time.perf_counter()
        try:
            yield measurement
        finally:
            wall_seconds = time.perf_counter() - wall_before
            cpu_seconds = _cpu_seconds() - cpu_before
            cost = Cost(
                started_at=started_at,
                wall_seconds=wall_seconds,
                cpu_seconds=cpu_seconds,
                peak_memory_bytes=memory.close(memory_window),
                energy=energy_window.end(window_seconds=wall_seconds, cpu_seconds=cpu_seconds),
                peak_memory_method=memory.method,
            )
            measurement.close(cost)
            if span.is_recording():
                span.set_attributes(_span_attributes(cost))


def _cpu_seconds() -> float:
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _span_attributes(cost: Cost) -> Mapping[str, Attribute]:
    attributes: dict[str, Attribute] = {
        "aura.wall_seconds": cost.wall_seconds,
        "aura.cpu_seconds": cost.cpu_seconds,
        "aura.peak_memory_bytes": cost.peak_memory_bytes,
        "aura.peak_memory_method": cost.peak_memory_method,
        "aura.energy.source": cost.energy.source,
    }
    if cost.energy.joules is not None:
        attributes["aura.energy.joules"] = cost.energy.joules
    return attributes
