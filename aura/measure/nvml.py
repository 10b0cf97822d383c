"""The energy counters of NVIDIA GPUs, read through NVML.

Belongs here: finding the GPUs and reading their counters. Does not: what a window used (see `aura.measure.energy`).
The counter is `nvmlDeviceGetTotalEnergyConsumption`: millijoules since the driver was loaded, Volta and newer. On A100
and H100 it integrates a power sensor that is on for a quarter of the time (arXiv:2312.02741), so figures of windows
under a few seconds scatter.
"""

from __future__ import annotations

from collections.abc import Mapping

_JOULES_PER_MILLIJOULE = 1e-3


class GpuCounters:
    """Energy of every GPU of the machine, in joules since its driver was loaded.

    Attributes:
        problems: Why a GPU, or all of them, are not among the readings.
    """

    def __init__(self) -> None:
        """Load NVML and find the GPUs that have an energy counter."""
        import pynvml  # 80 ms, only needed where energy is measured

        self._nvml = pynvml
        self._devices: dict[str, object] = {}
        self.problems: list[str] = []
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:
            self.problems.append(f"NVML: {error} (no NVIDIA GPU, or its driver is not visible here)")
            return
        for index in range(count):
            try:
                self._devices[f"gpu-{index}"] = pynvml.nvmlDeviceGetHandleByIndex(index)
            except pynvml.NVMLError as error:
                self.problems.append(f"gpu-{index}: {error}")
        if not count:
            self.problems.append("NVML: the driver is loaded but shows no GPU")

    def read(self) -> Mapping[str, float]:
        """Read every counter.

        Returns:
            Joules by domain ("gpu-0"); a GPU that does not answer is absent from this reading on.
        """
        joules: dict[str, float] = {}
        for domain, device in list(self._devices.items()):
            try:
                joules[domain] = self._nvml.nvmlDeviceGetTotalEnergyConsumption(device) * _JOULES_PER_MILLIJOULE
            except self._nvml.NVMLError as error:
                self.problems.append(f"{domain}: {error}")
                del self._devices[domain]
        return joules
