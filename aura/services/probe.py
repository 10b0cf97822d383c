"""Asking many servers at once whether they work, with one deadline for all of them.

Belongs here: what a probe and its finding are, running them, and errors in plain words. Does not: what is asked of each
server (`aura.services.network_probes`, `aura.services.http_probes`, `aura.services.file_probes`).
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """What is known of a service."""

    OK = "ok"
    FAILED = "failed"
    NOT_CONFIGURED = "not_configured"


class ProbeError(Exception):
    """A server does not do what it should; the message says so to a person."""


@dataclass(frozen=True)
class Probe:
    """One real operation on one service.

    Attributes:
        service: Its name in the report.
        operation: What is done, in words.
        address: Where: host and port, a URL, or a path.
        remedy: What a person does when it fails.
        run: Does it, given the seconds that one call may take; returns the version, None if the service does not tell.
        absent: Why there is nothing to ask; None if there is something.
    """

    service: str
    operation: str
    address: str | None
    remedy: str
    run: Callable[[float], str | None]
    absent: str | None = None


@dataclass(frozen=True)
class Finding:
    """What one probe found.

    Attributes:
        probe: What was asked.
        state: The outcome.
        seconds: How long it took; None if nothing was asked.
        version: What the service says of itself.
        error: What went wrong, in words.
    """

    probe: Probe
    state: State
    seconds: float | None = None
    version: str | None = None
    error: str | None = None


def not_configured(service: str, why: str) -> Probe:
    """A service that is not used here: nothing is asked, and it counts neither as working nor as failed."""
    return Probe(service, "", None, "", lambda _: None, absent=why)


def unusable(service: str, operation: str, address: str | None, reason: str, remedy: str) -> Probe:
    """A probe that cannot even be tried, because something on this side is missing."""

    def fail(_: float) -> str | None:
        raise ProbeError(reason)

    return Probe(service, operation, address, remedy, fail)


def run_all(
    probes: Sequence[Probe], *, call_seconds: float, total_seconds: float, clock: Callable[[], float] = time.monotonic
) -> list[Finding]:
    """Run probes side by side.

    Args:
        probes: What to ask.
        call_seconds: Time-out of one remote call inside a probe.
        total_seconds: When a probe that has not come back is given up; its thread ends with the process.
        clock: Seconds.

    Returns:
        One finding per probe, in the order of the probes.
    """
    found: queue.SimpleQueue[tuple[int, Finding]] = queue.SimpleQueue()

    def run(index: int, probe: Probe) -> None:
        begin = clock()
        try:
            version = probe.run(call_seconds)
        except Exception as error:  # noqa: BLE001  each client has errors of its own; all of them are the finding
            found.put((index, Finding(probe, State.FAILED, clock() - begin, error=in_words(error, call_seconds))))
        else:
            found.put((index, Finding(probe, State.OK, clock() - begin, version)))

    findings: dict[int, Finding] = {
        index: Finding(probe, State.NOT_CONFIGURED) for index, probe in enumerate(probes) if probe.absent is not None
    }
    end = clock() + total_seconds
    for index, probe in enumerate(probes):
        if index not in findings:
            threading.Thread(target=run, args=(index, probe), daemon=True, name=f"probe-{probe.service}").start()
    while len(findings) < len(probes):
        try:
            index, finding = found.get(timeout=max(0.0, end - clock()))
        except queue.Empty:
            break
        findings[index] = finding
    late = f"no answer within {total_seconds:g} s"
    return [
        findings.get(index, Finding(probe, State.FAILED, total_seconds, error=late))
        for index, probe in enumerate(probes)
    ]


def in_words(error: BaseException, call_seconds: float) -> str:
    """What an error means to a person, as one line without a full stop."""
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(error, socket.gaierror):
        return "the name of the host is unknown"
    if isinstance(error, TimeoutError):
        return f"no answer within {call_seconds:g} s"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "the connection was dropped"
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return first.rstrip(".")


def connect(host: str, port: int, call_seconds: float) -> socket.socket:
    """Open a plain connection, for an error that every protocol words in its own way.

    Raises:
        OSError: Nobody can be reached there.
    """
    return socket.create_connection((host, port), timeout=call_seconds)
