"""How much memory is left: of this machine, and of the control groups that this process is in.

Belongs here: reading it, and when there is too little. Does not: what is demoted then (`upkeep`).

References:
    Linux, Documentation/admin-guide/cgroup-v2.rst (memory.max, memory.current, memory.stat), and
    Documentation/admin-guide/cgroup-v1/memory.rst (memory.limit_in_bytes, memory.usage_in_bytes).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

CONTROL_GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")

TIGHT = 0.95
"""Share of a limit in use from which memory is given back; a further step is a killed process."""
RELAXED = 0.90
"""Share down to which it is given back, and below which it is taken again."""
LOOK_SECONDS = 0.05
"""Between two looks; reading the files costs some 0.1 ms."""


@dataclass(frozen=True, slots=True)
class Room:
    """Memory under one limit.

    Attributes:
        where: The control group's directory, or "machine".
        limit_bytes: The limit.
        used_bytes: What is in use and cannot be dropped; the cache of files that were not read lately can.
    """

    where: str
    limit_bytes: int
    used_bytes: int

    @property
    def excess_bytes(self) -> int:
        """What has to be given back: nothing below `TIGHT`."""
        if self.used_bytes <= TIGHT * self.limit_bytes:
            return 0
        return int(self.used_bytes - RELAXED * self.limit_bytes)

    @property
    def spare_bytes(self) -> int:
        """What may be taken without becoming tight; at least zero."""
        return max(0, int(RELAXED * self.limit_bytes - self.used_bytes))


def rooms(groups: Path = CONTROL_GROUPS, own: Path = OWN_GROUPS) -> list[Room]:
    """The machine's memory, and that of each control group with a limit from this process's up to the root.

    Args:
        groups: Where the control groups are mounted, version 2 or 1.
        own: The file that says which groups this process is in.
    """
    machine = psutil.virtual_memory()
    found = [Room("machine", machine.total, machine.total - machine.available)]
    for top, path in _memory_groups(groups, own):
        # In a container the file may name a path of the host that is not mounted: then the mount is the group.
        group = top / path if (top / path).is_dir() else top
        while True:
            room = _room(group, machine.total)
            if room is not None:
                found.append(room)
            if group == top:
                break
            group = group.parent
    return found


def _memory_groups(groups: Path, own: Path) -> Iterator[tuple[Path, str]]:
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            yield groups, path.lstrip("/")
        elif "memory" in controllers.split(","):
            yield groups / "memory", path.lstrip("/")


def _room(group: Path, machine_bytes: int) -> Room | None:
    """None for a group without a limit below the machine's memory; only the others have their usage read."""
    for limit_file, used_file, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            limit = (group / limit_file).read_text().strip()
            if limit == "max" or int(limit) >= machine_bytes:
                return None
            used = int((group / used_file).read_text())
            stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        return Room(str(group), int(limit), max(0, used - int(stat.get(cache, 0))))
    return None


class MemoryWatch:
    """Looks at the memory now and then, and in between counts what was taken. One per owner; locked by the owner."""

    def __init__(self, read: Callable[[], list[Room]] = rooms, clock: Callable[[], float] = time.monotonic) -> None:
        """Look at once.

        Args:
            read: Gives the memory as it is now.
            clock: Seconds, monotonic.
        """
        self._read = read
        self._clock = clock
        self._look()

    def admits(self, size: int) -> bool:
        """Whether `size` bytes may be taken; they are counted as taken then."""
        if self._clock() >= self._looked + LOOK_SECONDS or size > self._spare:
            self._look()
        if size > self._spare:
            return False
        self._spare -= size
        return True

    def excess(self) -> Room | None:
        """The limit that is most exceeded now, if any is."""
        self._look()
        tight = max(self._rooms, key=lambda room: room.excess_bytes)
        return tight if tight.excess_bytes else None

    def spare(self) -> int:
        """Bytes that may be taken."""
        return self._spare

    def _look(self) -> None:
        self._rooms = self._read()
        self._looked = self._clock()
        self._spare = min(room.spare_bytes for room in self._rooms)
