"""Counters in a directory tree like the kernel's powercap class, written by the tests."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aura.measure.energy import RaplCounters
from aura.measure.rapl import PowercapZones, WrappingCounter

RANGE_UJ = 262_143_328_850


def write_zone(root: Path, directory: str, name: str, *, energy_uj: int = 0, range_uj: int | None = RANGE_UJ) -> Path:
    zone = root / directory
    zone.mkdir(parents=True)
    (zone / "name").write_text(f"{name}\n")
    (zone / "energy_uj").write_text(f"{energy_uj}\n")
    if range_uj is not None:
        (zone / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return zone


def set_energy(zone: Path, energy_uj: int) -> None:
    # Whole, as the kernel answers: a sampling thread may read at any moment.
    (zone / "next").write_text(f"{energy_uj}\n")
    (zone / "next").replace(zone / "energy_uj")


@given(
    increments=st.lists(st.integers(min_value=0, max_value=999), max_size=200),
    start=st.integers(min_value=0, max_value=999),
)
def test_increments_over_any_number_of_wraps_sum_to_the_true_energy(increments: list[int], start: int) -> None:
    modulus = 1000
    counter = WrappingCounter(first_uj=start, range_uj=modulus)
    true_value = start
    for increment in increments:
        true_value += increment
        counter.advance(true_value % modulus)
    assert counter.total_uj == sum(increments)


def test_packages_and_their_memory_are_summed_and_what_another_zone_contains_is_left_out(tmp_path: Path) -> None:
    used_by_zone = {
        "intel-rapl:0": ("package-0", 5_000_000),
        "intel-rapl:0:0": ("core", 3_000_000),
        "intel-rapl:0:1": ("uncore", 1_000_000),
        "intel-rapl:0:2": ("dram", 700_000),
        "intel-rapl:1": ("package-1", 4_000_000),
        "intel-rapl:1:0": ("dram", 600_000),
        "intel-rapl:2": ("psys", 20_000_000),
        "intel-rapl-mmio:0": ("package-0", 5_000_000),
    }
    (tmp_path / "intel-rapl").mkdir()
    zones = {directory: write_zone(tmp_path, directory, name) for directory, (name, _) in used_by_zone.items()}
    window = RaplCounters(tmp_path).begin()
    for directory, (_, used_uj) in used_by_zone.items():
        set_energy(zones[directory], used_uj)
    energy = window.end(window_seconds=1.0, cpu_seconds=1.0)
    assert energy.source == "measured"
    assert energy.domains == pytest.approx({"package-0": 5.0, "package-1": 4.0, "dram-0": 0.7, "dram-1": 0.6})
    assert energy.joules == pytest.approx(10.3)
    assert energy.reason is None


def test_a_wrap_around_inside_a_window_is_added_not_subtracted(tmp_path: Path) -> None:
    zone = write_zone(tmp_path, "intel-rapl:0", "package-0", energy_uj=RANGE_UJ - 1_000_000)
    window = RaplCounters(tmp_path).begin()
    set_energy(zone, 2_000_000)
    assert window.end(window_seconds=1.0, cpu_seconds=0.0).joules == pytest.approx(3.0)


def test_nested_windows_each_see_their_own_energy(tmp_path: Path) -> None:
    zone = write_zone(tmp_path, "intel-rapl:0", "package-0")
    meter = RaplCounters(tmp_path)
    outer = meter.begin()
    set_energy(zone, 1_000_000)
    inner = meter.begin()
    set_energy(zone, 3_000_000)
    assert inner.end(window_seconds=1.0, cpu_seconds=0.0).joules == pytest.approx(2.0)
    set_energy(zone, 7_000_000)
    assert outer.end(window_seconds=1.0, cpu_seconds=0.0).joules == pytest.approx(7.0)


def test_several_wraps_in_one_long_window_are_all_seen(tmp_path: Path) -> None:
    zone = write_zone(tmp_path, "intel-rapl:0", "package-0", range_uj=1_000_000)
    zones = PowercapZones(tmp_path, max_zone_watts=100.0)
    before = zones.open_window()["package-0"]
    true_uj = 0
    for _ in range(10):
        true_uj += 600_000
        seen = zones.readings
        set_energy(zone, true_uj % 1_000_000)
        while zones.readings < seen + 2:  # the first may have read just before the file was written
            time.sleep(0.001)
    after = zones.close_window()["package-0"]
    assert after - before == pytest.approx(true_uj * 1e-6)


def test_a_zone_without_a_range_is_set_aside_with_its_reason(tmp_path: Path) -> None:
    good = write_zone(tmp_path, "intel-rapl:0", "package-0")
    bad = write_zone(tmp_path, "intel-rapl:1", "package-1", range_uj=None)
    window = RaplCounters(tmp_path).begin()
    set_energy(good, 1_000_000)
    set_energy(bad, 9_000_000)
    energy = window.end(window_seconds=1.0, cpu_seconds=0.0)
    assert energy.domains == pytest.approx({"package-0": 1.0})
    assert energy.reason is not None
    assert "intel-rapl:1" in energy.reason
    assert "max_energy_range_uj" in energy.reason


def test_a_range_of_zero_is_set_aside_with_its_reason(tmp_path: Path) -> None:
    write_zone(tmp_path, "intel-rapl:0", "package-0", range_uj=0)
    energy = RaplCounters(tmp_path).begin().end(window_seconds=1.0, cpu_seconds=0.0)
    assert energy.source == "unavailable"
    assert energy.reason is not None
    assert "max_energy_range_uj is 0" in energy.reason


@pytest.mark.parametrize("content", ["", "not a number"])
def test_a_counter_that_is_no_number_is_set_aside(tmp_path: Path, content: str) -> None:
    zone = write_zone(tmp_path, "intel-rapl:0", "package-0")
    (zone / "energy_uj").write_text(content)
    energy = RaplCounters(tmp_path).begin().end(window_seconds=1.0, cpu_seconds=0.0)
    assert energy.source == "unavailable"
    assert energy.reason is not None
    assert "intel-rapl:0" in energy.reason


def test_a_zone_that_stops_to_answer_is_absent_and_the_others_stay(tmp_path: Path) -> None:
    stays = write_zone(tmp_path, "intel-rapl:0", "package-0")
    goes = write_zone(tmp_path, "intel-rapl:1", "package-1")
    window = RaplCounters(tmp_path).begin()
    set_energy(stays, 1_000_000)
    shutil.rmtree(goes)
    energy = window.end(window_seconds=1.0, cpu_seconds=0.0)
    assert energy.domains == pytest.approx({"package-0": 1.0})
    assert energy.reason is not None
    assert "intel-rapl:1" in energy.reason


def test_a_machine_without_zones_says_so(tmp_path: Path) -> None:
    energy = RaplCounters(tmp_path / "absent").begin().end(window_seconds=1.0, cpu_seconds=0.0)
    assert energy.source == "unavailable"
    assert energy.reason is not None
    assert "no RAPL zones" in energy.reason


@pytest.mark.parametrize(("seconds", "used_uj"), [(0.05, 1_000_000), (1.0, 0)])
def test_a_window_too_short_for_its_counter_has_no_figure(tmp_path: Path, seconds: float, used_uj: int) -> None:
    zone = write_zone(tmp_path, "intel-rapl:0", "package-0")
    window = RaplCounters(tmp_path).begin()
    set_energy(zone, used_uj)
    energy = window.end(window_seconds=seconds, cpu_seconds=0.0)
    assert energy.source == "unavailable"
    assert energy.reason is not None
    assert "window too short" in energy.reason


@contextmanager
def as_an_ordinary_user() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_counters_readable_by_root_only_are_unavailable_and_name_the_remedy() -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        root.chmod(0o755)
        zone = write_zone(root, "intel-rapl:0", "package-0")
        (zone / "energy_uj").chmod(0o000)
        with as_an_ordinary_user():
            energy = RaplCounters(root).begin().end(window_seconds=1.0, cpu_seconds=0.0)
    assert energy.source == "unavailable"
    assert energy.reason is not None
    assert "readable by root only" in energy.reason
    assert "chmod a+r" in energy.reason
