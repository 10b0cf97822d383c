"""The measuring context manager on real work of this process."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime

import numpy as np
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from aura.measure.cost import Cost, MeasurementOpenError, measure
from aura.measure.energy import ModelledCpu, open_meter, unavailable
from aura.measure.peak_memory import HighWaterMark, PeakMemory, PeakWindow, SampledPeak, process_peak_memory

MIB = 1024 * 1024
OFF = open_meter("off")
STARTED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def burn_cpu(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def touch(mebibytes: int) -> np.ndarray:
    return np.ones(mebibytes * MIB, dtype=np.uint8)


def touch_and_give_back(memory: PeakMemory, *windows: PeakWindow) -> None:
    before = memory.close(memory.open())
    block = touch(200)
    while isinstance(memory, SampledPeak) and any(window.peak_bytes < before + 190 * MIB for window in windows):
        time.sleep(0.001)
    del block


def peaks() -> list[PeakMemory]:
    ways: list[PeakMemory] = [SampledPeak(interval_seconds=0.001)]
    if isinstance(process_peak_memory(), HighWaterMark):
        ways.append(process_peak_memory())
    return ways


def test_sleeping_costs_wall_time_and_no_cpu_time() -> None:
    with measure("sleep", meter=OFF) as measurement:
        time.sleep(0.2)
    assert measurement.cost.wall_seconds >= 0.2
    assert measurement.cost.cpu_seconds < measurement.cost.wall_seconds


def test_cpu_time_of_this_process_is_counted() -> None:
    with measure("burn", meter=OFF) as measurement:
        burn_cpu(0.1)
    assert measurement.cost.cpu_seconds >= 0.099


def test_cpu_time_of_a_child_that_ended_is_counted() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    own_before = time.process_time()
    with measure("child", meter=OFF) as measurement:
        subprocess.run([sys.executable, "-c", burn], check=True)
    own = time.process_time() - own_before
    assert measurement.cost.cpu_seconds >= own + 0.25


def test_the_start_is_what_the_clock_says() -> None:
    with measure("work", meter=OFF, clock=lambda: STARTED) as measurement:
        pass
    assert measurement.cost.started_at == STARTED


def test_a_start_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        Cost(datetime(2026, 3, 1), 1.0, 1.0, 1, unavailable("off"), "VmHWM")  # noqa: DTZ001


def test_the_energy_is_that_of_the_meter() -> None:
    with measure("burn", meter=ModelledCpu(10.0)) as measurement:
        burn_cpu(0.05)
    assert measurement.cost.energy.joules == pytest.approx(measurement.cost.cpu_seconds * 10.0)


def test_the_figures_exist_when_the_body_raised() -> None:
    def broken_work() -> None:
        burn_cpu(0.02)
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"), measure("fails", meter=OFF) as measurement:
        broken_work()
    assert measurement.cost.cpu_seconds >= 0.019


def test_figures_read_before_the_end_are_refused_by_name() -> None:
    with measure("early", meter=OFF) as measurement, pytest.raises(MeasurementOpenError, match="'early'"):
        _ = measurement.cost


def test_the_cost_names_how_its_peak_is_known() -> None:
    with measure("work", meter=OFF) as measurement:
        pass
    assert measurement.cost.peak_memory_method == process_peak_memory().method
    assert measurement.cost.peak_memory_bytes > MIB


@pytest.mark.parametrize("memory", peaks(), ids=lambda memory: memory.method)
def test_a_peak_is_seen_after_its_memory_was_given_back(memory: PeakMemory) -> None:
    idle = memory.close(memory.open())
    window = memory.open()
    touch_and_give_back(memory, window)
    assert memory.close(window) - idle > 180 * MIB


@pytest.mark.parametrize("memory", peaks(), ids=lambda memory: memory.method)
def test_a_peak_before_the_window_is_not_its_peak(memory: PeakMemory) -> None:
    block = touch(200)
    high = memory.close(memory.open())
    del block
    assert high - memory.close(memory.open()) > 180 * MIB


@pytest.mark.parametrize("memory", peaks(), ids=lambda memory: memory.method)
def test_an_inner_window_neither_hides_the_outer_peak_nor_sees_it(memory: PeakMemory) -> None:
    idle = memory.close(memory.open())
    outer = memory.open()
    touch_and_give_back(memory, outer)
    inner_peak = memory.close(memory.open())
    outer_peak = memory.close(outer)
    assert inner_peak - idle < 100 * MIB
    assert outer_peak - idle > 180 * MIB


@pytest.mark.parametrize("memory", peaks(), ids=lambda memory: memory.method)
def test_windows_that_overlap_without_nesting_share_the_peak_of_their_overlap(memory: PeakMemory) -> None:
    idle = memory.close(memory.open())
    first = memory.open()
    second = memory.open()
    touch_and_give_back(memory, first, second)
    assert memory.close(first) - idle > 180 * MIB
    assert memory.close(second) - idle > 180 * MIB


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(spans: InMemorySpanExporter):
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return provider.get_tracer("test")


def test_a_window_is_a_span_with_its_figures(spans: InMemorySpanExporter, tracer) -> None:
    attributes = {"aura.group": "topology"}
    with measure("diagrams", meter=ModelledCpu(10.0), attributes=attributes, tracer=tracer) as measurement:
        burn_cpu(0.01)
    (span,) = spans.get_finished_spans()
    cost = measurement.cost
    assert span.name == "diagrams"
    assert span.attributes == {
        "aura.group": "topology",
        "aura.wall_seconds": cost.wall_seconds,
        "aura.cpu_seconds": cost.cpu_seconds,
        "aura.peak_memory_bytes": cost.peak_memory_bytes,
        "aura.peak_memory_method": cost.peak_memory_method,
        "aura.energy.source": "modelled",
        "aura.energy.joules": cost.energy.joules,
    }


def test_a_span_has_no_joules_where_there_are_none(spans: InMemorySpanExporter, tracer) -> None:
    with measure("diagrams", meter=OFF, tracer=tracer):
        pass
    (span,) = spans.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["aura.energy.source"] == "unavailable"
    assert "aura.energy.joules" not in span.attributes


def test_nested_windows_are_nested_spans(spans: InMemorySpanExporter, tracer) -> None:
    with measure("outer", meter=OFF, tracer=tracer), measure("inner", meter=OFF, tracer=tracer):
        pass
    inner, outer = spans.get_finished_spans()
    assert inner.parent is not None
    assert inner.parent.span_id == outer.context.span_id


def test_an_exception_is_recorded_on_the_span_beside_its_figures(spans: InMemorySpanExporter, tracer) -> None:
    with pytest.raises(KeyError), measure("fails", meter=OFF, tracer=tracer):
        raise KeyError("absent")
    (span,) = spans.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert [event.name for event in span.events] == ["exception"]
    assert span.attributes is not None
    assert "aura.wall_seconds" in span.attributes
