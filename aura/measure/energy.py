"""Joules of a window of work, always with their source: measured, modelled or unavailable.

Belongs here: the value, the meters that produce it, and the choice among them. Does not: the counters' files and
libraries (see `aura.measure.rapl` and `aura.measure.nvml`).

Counters see the whole machine, other processes and idle power included, and windows that overlap see the same joules.

zeus (ml.energy) has the same begin/end windows but is not a dependency: it installs `amdsmi`, which makes `import ray`
crash on a machine without ROCm, and its `total_energy` adds up GPUs only, so it reads 0 where only the CPU is counted.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from aura.measure.nvml import GpuCounters
from aura.measure.rapl import POWERCAP_ROOT, PowercapZones

EnergySource = Literal["measured", "modelled", "unavailable"]
EnergyMode = Literal["auto", "off", "modelled"]

# RAPL counters are refreshed about every millisecond and NVML's about every 100 ms: below this, a difference is mostly
# the refresh grid.
MIN_WINDOW_SECONDS = 0.1


class EnergyError(ValueError):
    """A figure of energy that contradicts its source, or a meter asked for without what it needs."""


@dataclass(frozen=True)
class Energy:
    """Energy of one window of work.

    Attributes:
        source: "measured" by a hardware counter, "modelled" from other figures, or "unavailable".
        joules: Sum over `domains`; None if and only if unavailable.
        domains: Joules by part of the machine ("package-0", "dram-0", "gpu-0"). A part without a figure is absent,
            never 0.
        method: The counter, or the model with its parameters.
        reason: Why there is no figure, or which parts of the machine are missing from it; None if nothing is.

    Raises:
        EnergyError: If the fields contradict each other.
    """

    source: EnergySource
    joules: float | None
    domains: Mapping[str, float]
    method: str
    reason: str | None = None

    def __post_init__(self) -> None:
        if self.source == "unavailable":
            if self.joules is not None or self.domains or not self.reason:
                raise EnergyError(f"unavailable energy has a reason and no figure, got {self!r}")
            return
        if self.joules is None or not self.domains:
            raise EnergyError(f"{self.source} energy has joules by domain, got {self!r}; use source 'unavailable'")
        if not all(math.isfinite(joules) and joules >= 0 for joules in self.domains.values()):
            raise EnergyError(f"joules are finite and not negative, got {dict(self.domains)}")
        if self.source == "measured" and not all(self.domains.values()):
            raise EnergyError(f"a domain that measured nothing is left out, not 0, got {dict(self.domains)}")
        if not math.isclose(self.joules, math.fsum(self.domains.values()), rel_tol=1e-9, abs_tol=1e-12):
            raise EnergyError(f"joules are the sum of the domains {dict(self.domains)}, got {self.joules}")


class EnergyWindow(Protocol):
    """One window of work, from `EnergyMeter.begin` to `end`."""

    def end(self, *, window_seconds: float, cpu_seconds: float) -> Energy:
        """Close the window. Call once.

        Args:
            window_seconds: Wall-clock length of the window.
            cpu_seconds: CPU time that the work used in it.

        Returns:
            What the window used; never raises because a counter failed, the reason is in the value.
        """
        ...


class EnergyMeter(Protocol):
    """Something that tells how much energy a window used. Windows may nest, overlap and run in several threads."""

    def begin(self) -> EnergyWindow:
        """Open a window."""
        ...


def unavailable(reason: str, *, method: str = "none") -> Energy:
    """Say that there is no figure.

    Args:
        reason: Why, and what would change it.
        method: The counter that was tried.

    Returns:
        An energy without joules.
    """
    return Energy(source="unavailable", joules=None, domains={}, method=method, reason=reason)


def combine(energies: Sequence[Energy]) -> Energy:
    """Add the measured energy of different parts of the machine.

    Args:
        energies: Figures of the same window with distinct domains, measured or unavailable.

    Returns:
        Their sum, over the domains that have a figure; the reasons of those without one are kept.

    Raises:
        EnergyError: If one is modelled (never added to a measurement) or two share a domain.
    """
    if any(energy.source == "modelled" for energy in energies):
        raise EnergyError("modelled energy is never added to anything; keep it as a figure of its own")
    measured = [energy for energy in energies if energy.source == "measured"]
    domains = {name: joules for energy in measured for name, joules in energy.domains.items()}
    if len(domains) != sum(len(energy.domains) for energy in measured):
        raise EnergyError(f"two meters report the same domain: {[sorted(energy.domains) for energy in measured]}")
    reason = "; ".join(energy.reason for energy in energies if energy.reason) or None
    if not domains:
        return unavailable(reason or "no meter", method=" + ".join(energy.method for energy in energies) or "none")
    return Energy(
        source="measured",
        joules=math.fsum(domains.values()),
        domains=domains,
        method=" + ".join(energy.method for energy in measured),
        reason=reason,
    )


class CounterMeter(ABC):
    """A meter on hardware counters: the difference of two readings, with the rules of what counts as measured."""

    method: str

    def begin(self) -> EnergyWindow:
        """Open a window with a reading of the counters."""
        return _CounterWindow(self, self._open())

    @abstractmethod
    def problems(self) -> Sequence[str]:
        """Why parts of the machine have no reading."""

    @abstractmethod
    def _open(self) -> Mapping[str, float]:
        """Joules by domain at the start of a window, from an origin of the meter's own."""

    @abstractmethod
    def _close(self) -> Mapping[str, float]:
        """Joules by domain at its end, from the same origin."""

    def _difference(self, before: Mapping[str, float], *, window_seconds: float) -> Energy:
        after = self._close()
        problems = list(self.problems())
        if before and window_seconds < MIN_WINDOW_SECONDS:
            problems.append(f"window too short: {window_seconds * 1e3:.0f} ms, at least {MIN_WINDOW_SECONDS * 1e3:.0f}")
            return unavailable("; ".join(problems), method=self.method)
        used = {domain: after[domain] - before[domain] for domain in before if domain in after}
        still = sorted(domain for domain, joules in used.items() if joules <= 0)
        if still:
            problems.append(f"window too short: the counters of {', '.join(still)} did not advance")
        domains = {domain: joules for domain, joules in used.items() if joules > 0}
        reason = "; ".join(problems) or None
        if not domains:
            return unavailable(reason or "no counter answered", method=self.method)
        return Energy("measured", math.fsum(domains.values()), domains, self.method, reason)


@dataclass(frozen=True)
class _CounterWindow:
    meter: CounterMeter
    before: Mapping[str, float]

    def end(self, *, window_seconds: float, cpu_seconds: float) -> Energy:  # noqa: ARG002 - counters need no CPU time
        return self.meter._difference(self.before, window_seconds=window_seconds)  # noqa: SLF001 - its own window


class RaplCounters(CounterMeter):
    """Packages and memory of the processors (Intel and AMD) through the kernel's powercap files."""

    method = "RAPL energy_uj of packages and memory"

    def __init__(self, root: Path = POWERCAP_ROOT) -> None:
        """Find the zones.

        Args:
            root: The powercap class directory.
        """
        self._zones = PowercapZones(root)

    def problems(self) -> Sequence[str]:
        """Why zones have no reading."""
        return self._zones.problems

    def _open(self) -> Mapping[str, float]:
        return self._zones.open_window()

    def _close(self) -> Mapping[str, float]:
        return self._zones.close_window()


class NvmlCounters(CounterMeter):
    """NVIDIA GPUs through NVML's total energy counter."""

    method = "NVML total energy of GPUs"

    def __init__(self) -> None:
        """Find the GPUs."""
        self._gpus = GpuCounters()

    def problems(self) -> Sequence[str]:
        """Why GPUs have no reading."""
        return self._gpus.problems

    def _open(self) -> Mapping[str, float]:
        return self._gpus.read()

    def _close(self) -> Mapping[str, float]:
        return self._gpus.read()


@dataclass(frozen=True)
class ModelledCpu:
    """Energy guessed from CPU time: joules = CPU seconds x watts of one busy core.

    Knows nothing of idle power, memory, GPUs or clock speed. Only used when asked for by name.

    Attributes:
        watts_per_core_busy: Power of one busy core in watts, for example the thermal design power over the cores.
        name: The model's name, shown wherever the figure is.
    """

    watts_per_core_busy: float
    name: str = "busy-core"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.watts_per_core_busy) and self.watts_per_core_busy > 0):
            raise EnergyError(f"watts_per_core_busy is a positive number of watts, got {self.watts_per_core_busy}")

    def begin(self) -> EnergyWindow:
        """Open a window."""
        return _ModelledWindow(self)


@dataclass(frozen=True)
class _ModelledWindow:
    model: ModelledCpu

    def end(self, *, window_seconds: float, cpu_seconds: float) -> Energy:  # noqa: ARG002 - the model has no idle term
        joules = cpu_seconds * self.model.watts_per_core_busy
        method = f"{self.model.name}: CPU seconds x {self.model.watts_per_core_busy:g} W per busy core"
        return Energy(source="modelled", joules=joules, domains={"cpu": joules}, method=method)


@dataclass(frozen=True)
class UnavailableMeter:
    """A meter that says why it has no figure."""

    reason: str

    def begin(self) -> EnergyWindow:
        """Open a window."""
        return _UnavailableWindow(self.reason)


@dataclass(frozen=True)
class _UnavailableWindow:
    reason: str

    def end(self, *, window_seconds: float, cpu_seconds: float) -> Energy:  # noqa: ARG002 - nothing to apply them to
        return unavailable(self.reason)


@dataclass(frozen=True)
class CombinedMeter:
    """Several counters of different parts of the machine as one meter."""

    meters: Sequence[CounterMeter]

    def begin(self) -> EnergyWindow:
        """Open a window on each."""
        return _CombinedWindow(tuple(meter.begin() for meter in self.meters))


@dataclass(frozen=True)
class _CombinedWindow:
    windows: Sequence[EnergyWindow]

    def end(self, *, window_seconds: float, cpu_seconds: float) -> Energy:
        return combine([window.end(window_seconds=window_seconds, cpu_seconds=cpu_seconds) for window in self.windows])


def open_meter(
    mode: EnergyMode,
    *,
    watts_per_core_busy: float | None = None,
    powercap_root: Path = POWERCAP_ROOT,
) -> EnergyMeter:
    """Choose the meter of this machine.

    Args:
        mode: "auto" reads the counters that exist and says what is missing; "modelled" guesses from CPU time; "off"
            reads nothing.
        watts_per_core_busy: Watts of one busy core; needed by "modelled", ignored otherwise.
        powercap_root: The powercap class directory.

    Returns:
        A meter. Making one never fails because a counter is absent.

    Raises:
        EnergyError: If the mode is unknown, or "modelled" without its watts.
    """
    if mode == "auto":
        return CombinedMeter((RaplCounters(powercap_root), NvmlCounters()))
    if mode == "off":
        return UnavailableMeter("energy measurement is off; set the mode to 'auto' or 'modelled'")
    if mode == "modelled":
        if watts_per_core_busy is None:
            raise EnergyError("energy mode 'modelled' needs watts_per_core_busy: the processor's power over its cores")
        return ModelledCpu(watts_per_core_busy)
    raise EnergyError(f"unknown energy mode {mode!r}; expected 'auto', 'off' or 'modelled'")
