"""The slab of L0: preallocated device memory, filled and read through pinned staging buffers on a stream of its own.

Belongs here: the copies between host and device. Does not: which objects are there (the owner's index).

Only an owner with L0 imports torch. With the device "cpu" the same code runs without stream and pinning, so that the
tier's contract is testable everywhere; it is then ordinary memory and has no advantage over L1.
"""

from __future__ import annotations

import logging
import threading
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from aura.tiers.errors import CapacityError, TierAbsentError

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

STAGING_BYTES = 4 << 20
"""Of each of the two staging buffers: while one is copied by the device, the host fills or empties the other."""


class DeviceSlab:
    """Device memory addressed by byte offset. Thread-safe."""

    def __init__(self, device: str, capacity_bytes: int) -> None:
        """Take the memory.

        Raises:
            TierAbsentError: Torch has no such device.
            CapacityError: The device has less memory free than that.
        """
        import torch

        self.capacity_bytes = capacity_bytes
        self.device = _checked_device(device)
        cuda = self.device.type == "cuda"
        self._slab = self._taken(capacity_bytes)
        size = min(STAGING_BYTES, capacity_bytes)
        self._staging = [torch.empty(size, dtype=torch.uint8, pin_memory=cuda) for _ in range(2)]
        self._host = [buffer.numpy().data for buffer in self._staging]
        self._stream = torch.cuda.Stream(self.device) if cuda else None  # type: ignore[no-untyped-call]
        self._done = [torch.cuda.Event() for _ in range(2)] if cuda else []  # type: ignore[no-untyped-call]
        self._lock = threading.Lock()

    def write(self, offset: int, payload: bytes | memoryview) -> None:
        """Copy the payload to the device; it is there when this returns."""
        source = memoryview(payload)
        with self._lock, self._on_stream():
            for turn, (start, size) in enumerate(self._pieces(len(source))):
                half = turn % 2
                self._wait(half)
                self._host[half][:size] = source[start : start + size]
                self._piece(offset + start, size).copy_(self._staging[half][:size], non_blocking=True)
                self._mark(half)
            self._wait(0)
            self._wait(1)

    def read(self, offset: int, length: int) -> memoryview | None:
        """Copy `length` bytes to the host, read-only; None where the slab has no memory any more."""
        target = bytearray(length)
        view = memoryview(target)
        pieces = self._pieces(length)
        with self._lock, self._on_stream():
            if offset + length > len(self._slab):
                return None
            for turn in range(len(pieces) + 1):
                if turn < len(pieces):
                    start, size = pieces[turn]
                    self._staging[turn % 2][:size].copy_(self._piece(offset + start, size), non_blocking=True)
                    self._mark(turn % 2)
                if turn > 0:
                    start, size = pieces[turn - 1]
                    self._wait((turn - 1) % 2)
                    view[start : start + size] = self._host[(turn - 1) % 2][:size]
        return view.toreadonly()

    def resize(self, capacity_bytes: int) -> None:
        """Give the memory back to the device and take this much of it anew; what was in it is gone.

        Raises:
            CapacityError: There is not even that much now; the slab has no memory then.
        """
        with self._lock:
            self.capacity_bytes = 0
            self._slab = self._slab[:0].clone()
            if self._stream is not None:
                import torch

                torch.cuda.empty_cache()
            self._slab = self._taken(capacity_bytes)
            self.capacity_bytes = capacity_bytes

    def free_share(self) -> float:
        """Share of the device's memory that nobody has taken; 1 for a device that does not tell."""
        if self._stream is None:
            return 1.0
        import torch

        free, total = torch.cuda.mem_get_info(self.device)
        return free / total

    def close(self) -> None:
        """Give the memory back."""
        with self._lock:
            self._slab = self._slab[:0].clone()

    def _taken(self, capacity_bytes: int) -> torch.Tensor:
        import torch

        try:
            return torch.empty(capacity_bytes, dtype=torch.uint8, device=self.device)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            raise CapacityError(
                f"There is no room for {capacity_bytes} bytes on {self.device}",
                cause=str(error).splitlines()[0],
                remedy="Lower device_bytes (0 leaves L0 out) or free memory on the device.",
            ) from error

    def _pieces(self, length: int) -> list[tuple[int, int]]:
        step = len(self._host[0])
        return [(start, min(step, length - start)) for start in range(0, length, step)]

    def _piece(self, start: int, size: int) -> torch.Tensor:
        return self._slab[start : start + size]

    def _on_stream(self) -> AbstractContextManager[object]:
        import torch

        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def _mark(self, half: int) -> None:
        if self._stream is not None:
            self._done[half].record(self._stream)

    def _wait(self, half: int) -> None:
        if self._stream is not None:
            self._done[half].synchronize()


def largest_slab(device: str, capacity_bytes: int) -> DeviceSlab | None:
    """A slab of that size, or of half, a quarter and so on where the device has less; None where it has next to none.

    Raises:
        TierAbsentError: Torch has no such device.
    """
    size = capacity_bytes
    while True:
        try:
            slab = DeviceSlab(device, size)
        except CapacityError as error:
            logger.warning("%s", error)
            size //= 2
            if size < STAGING_BYTES:
                return None
            continue
        if size < capacity_bytes:
            logger.warning("L0 has %d bytes instead of %d: %s has no more", size, capacity_bytes, device)
        return slab


DRIVERS = tuple(map(Path, ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")))
"""What the drivers of NVIDIA, of NVIDIA under WSL and of AMD show; a container sees at least one of them too."""


def default_device() -> str | None:
    """The device of L0 when none is named: "cuda" where torch finds one, else None."""
    # Importing torch takes seconds: without a driver there is nothing that it could find.
    if not any(driver.exists() for driver in DRIVERS):
        return None
    import torch

    return "cuda" if torch.cuda.is_available() else None


def _checked_device(name: str) -> torch.device:
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise TierAbsentError(
            f"There is no device {name!r}", cause=str(error).splitlines()[0], remedy='Use "cuda", "cuda:0" or None.'
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise TierAbsentError(
            f"The device {name!r} was asked for, but torch finds no CUDA device",
            remedy="Install a driver and a CUDA build of torch, or set device to None to leave L0 out.",
        )
    return device
