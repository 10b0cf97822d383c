"""Energy as a value, and the choice of a meter."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aura.measure.energy import Energy, EnergyError, ModelledCpu, NvmlCounters, combine, open_meter, unavailable


def measured(**domains: float) -> Energy:
    return Energy("measured", sum(domains.values()), domains, "a counter")


@pytest.mark.parametrize(
    ("source", "joules", "domains", "reason"),
    [
        ("unavailable", 1.0, {}, "why"),
        ("unavailable", None, {"gpu-0": 1.0}, "why"),
        ("unavailable", None, {}, None),
        ("measured", None, {"gpu-0": 1.0}, None),
        ("measured", 1.0, {}, None),
        ("measured", 0.0, {"gpu-0": 0.0}, None),
        ("measured", 1.0, {"gpu-0": 1.0, "package-0": 0.0}, None),
        ("measured", 3.0, {"gpu-0": 1.0}, None),
        ("measured", float("nan"), {"gpu-0": float("nan")}, None),
        ("modelled", -1.0, {"cpu": -1.0}, None),
    ],
)
def test_fields_that_contradict_each_other_are_refused(source, joules, domains, reason) -> None:
    with pytest.raises(EnergyError):
        Energy(source, joules, domains, "a counter", reason)


@given(
    st.dictionaries(st.sampled_from(["package-0", "dram-0"]), st.floats(1e-3, 1e6), min_size=1),
    st.dictionaries(st.sampled_from(["gpu-0", "gpu-1"]), st.floats(1e-3, 1e6), min_size=1),
)
def test_measured_parts_of_the_machine_add_up(processors: dict[str, float], gpus: dict[str, float]) -> None:
    total = combine([measured(**processors), measured(**gpus)])
    assert total.source == "measured"
    assert total.domains == {**processors, **gpus}
    assert total.joules == pytest.approx(sum(processors.values()) + sum(gpus.values()))


def test_a_part_without_a_figure_stays_absent_and_its_reason_is_kept() -> None:
    total = combine([measured(package=2.0), unavailable("no driver")])
    assert total.domains == {"package": 2.0}
    assert total.reason == "no driver"


def test_parts_without_any_figure_are_unavailable_for_all_their_reasons() -> None:
    total = combine([unavailable("no zones"), unavailable("no driver")])
    assert total.source == "unavailable"
    assert total.joules is None
    assert total.reason == "no zones; no driver"


def test_modelled_energy_is_never_added_to_a_measurement() -> None:
    modelled = ModelledCpu(5.0).begin().end(window_seconds=1.0, cpu_seconds=2.0)
    with pytest.raises(EnergyError, match="never added"):
        combine([measured(package=2.0), modelled])


def test_one_domain_is_not_counted_twice() -> None:
    with pytest.raises(EnergyError, match="same domain"):
        combine([measured(package=2.0), measured(package=2.0)])


def test_the_model_multiplies_cpu_time_and_names_itself_with_its_parameter() -> None:
    energy = ModelledCpu(7.5, name="laptop").begin().end(window_seconds=10.0, cpu_seconds=4.0)
    assert energy.source == "modelled"
    assert energy.joules == pytest.approx(30.0)
    assert "laptop" in energy.method
    assert "7.5 W" in energy.method


@pytest.mark.parametrize("watts", [0.0, -1.0, float("inf"), float("nan")])
def test_a_model_needs_a_positive_power(watts: float) -> None:
    with pytest.raises(EnergyError, match="watts_per_core_busy"):
        ModelledCpu(watts)


def test_without_a_gpu_driver_nvml_says_why_there_is_no_figure() -> None:
    energy = NvmlCounters().begin().end(window_seconds=1.0, cpu_seconds=0.0)
    if energy.source == "measured" or (energy.reason and "window too short" in energy.reason):
        pytest.skip("this machine has a GPU with an energy counter")
    assert energy.source == "unavailable"
    assert energy.reason is not None
    assert "NVML" in energy.reason


def test_automatic_measurement_names_every_counter_that_is_missing(tmp_path: Path) -> None:
    energy = open_meter("auto", powercap_root=tmp_path).begin().end(window_seconds=0.2, cpu_seconds=0.0)
    assert energy.reason is not None
    assert "no RAPL zones" in energy.reason
    assert energy.source == "measured" or "NVML" in energy.reason


def test_automatic_measurement_uses_the_counters_that_exist(tmp_path: Path) -> None:
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "name").write_text("package-0")
    (zone / "max_energy_range_uj").write_text("1000000000")
    (zone / "energy_uj").write_text("0")
    window = open_meter("auto", powercap_root=tmp_path).begin()
    (zone / "energy_uj").write_text("2500000")
    energy = window.end(window_seconds=1.0, cpu_seconds=0.0)
    assert energy.source == "measured"
    assert energy.domains["package-0"] == pytest.approx(2.5)


def test_measurement_switched_off_says_so() -> None:
    energy = open_meter("off").begin().end(window_seconds=1.0, cpu_seconds=0.0)
    assert energy.source == "unavailable"
    assert energy.reason is not None
    assert "off" in energy.reason


def test_a_model_is_only_used_with_its_power_given() -> None:
    with pytest.raises(EnergyError, match="watts_per_core_busy"):
        open_meter("modelled")
    energy = open_meter("modelled", watts_per_core_busy=3.0).begin().end(window_seconds=1.0, cpu_seconds=1.0)
    assert energy.source == "modelled"


def test_an_unknown_mode_is_refused_by_name() -> None:
    with pytest.raises(EnergyError, match="'guess'"):
        open_meter("guess")  # type: ignore[arg-type]
