"""Processes that outlive or follow the one that started them: who they are, and signals to all of one server.

Belongs here: identity (a pid alone may be a stranger's by now), the process tree, the tether to a starter that may
crash. Does not: what a server is. Linux only, for `/proc`.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_STATE, _START_TICKS = 0, 19  # in /proc/<pid>/stat, counted from behind the command's name


@dataclass(frozen=True)
class Identity:
    """One process, not to be confused with a later one that was given the same number.

    Attributes:
        pid: Its number; its process group has the same.
        ticks: When it started, in clock ticks since boot.
        boot: Identifier of that boot.
    """

    pid: int
    ticks: int
    boot: str


def identify(pid: int) -> Identity | None:
    """Who runs under this number now; None: nobody, or a process that has ended and awaits its parent."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    if fields[_STATE] in {"Z", "X"} and _threads(pid) <= 1:
        return None
    return Identity(pid, int(fields[_START_TICKS]), _BOOT.read_text(encoding="utf-8").strip())


def _threads(pid: int) -> int:
    """Of a killed process the first thread ends first; the others hold its ports and files a moment longer."""
    try:
        return len(list(Path(f"/proc/{pid}/task").iterdir()))
    except OSError:
        return 0


def alive(identity: Identity) -> bool:
    """Whether this very process still runs."""
    return identify(identity.pid) == identity


def signal_all(identity: Identity, kind: signal.Signals) -> None:
    """Send a signal to a process, its group and its descendants; nothing happens if it has ended.

    Descendants are named one by one because PostgreSQL's leave the group.
    """
    if not alive(identity):
        return
    try:
        children = psutil.Process(identity.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    with suppress(ProcessLookupError):
        os.killpg(identity.pid, kind)
    for child in children:
        # psutil compares the start time first.
        with suppress(psutil.NoSuchProcess):
            child.send_signal(kind)


class Tether:
    """Kills a process group when this process ends, however it ends.

    A shell waits for the end of a pipe that only this process holds open. (The kernel's parent-death signal would fire
    when the *thread* that started the server ends.)
    """

    def __init__(self, pid: int) -> None:
        """Args: pid: Leader of the group."""
        waiting, self._held = os.pipe()
        try:
            self._shell = subprocess.Popen(  # noqa: S603
                ["/bin/sh", "-c", 'read -r _; kill -KILL "-$1"', "tether", str(pid)],
                stdin=waiting,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            os.close(waiting)

    def cut(self) -> None:
        """Let go without killing."""
        self._shell.kill()
        self._shell.wait()
        os.close(self._held)
