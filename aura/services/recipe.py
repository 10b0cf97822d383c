"""What a server that runs on this machine is: ports, files, command, and the operation that proves it ready.

Belongs here: the shape of a recipe. Does not: the recipes (one module per server), starting and stopping
(`aura.services.server`).
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aura.settings import LOOPBACK

INSTALL = "deploy/servers.sh"
"""What installs the distribution's packages; it is named in remedies."""


class ServerError(RuntimeError):
    """A server cannot be started, stopped or reached; the message says why and the remedy."""


class MissingSoftwareError(ServerError):
    """What a server needs is not installed; the message says what and how to get it."""


@dataclass(frozen=True)
class Place:
    """Where one server lives.

    Attributes:
        directory: Its directory: configuration, `data/` and `server.log`.
        ports: Port by its name in the recipe; all on loopback.
    """

    directory: Path
    ports: Mapping[str, int]

    @property
    def port(self) -> int:
        """The port that clients connect to."""
        return self.ports["client"]

    @property
    def host_and_port(self) -> str:
        """Where clients connect, `127.0.0.1:port`."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def data(self) -> Path:
        """What the server must find again after a restart."""
        return self.directory / "data"


@dataclass(frozen=True)
class Account:
    """The account that a server runs as; None: the caller's own."""

    user: int | None = None
    group: int | None = None

    @property
    def extra_groups(self) -> list[int] | None:
        """Other groups: none of root's come along."""
        return None if self.user is None else []


@dataclass(frozen=True)
class Launch:
    """One process to start.

    Attributes:
        command: Program and arguments.
        environment: Variables on top of the caller's.
        account: Who runs it.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    account: Account = Account()


@dataclass(frozen=True)
class Recipe:
    """One kind of server.

    Attributes:
        name: As on the command line, and of its directory.
        title: As a person reads it.
        port_setting: Setting that fixes the port of the clients, for remedies.
        prepare: Writes the configuration and creates the data where there is none; says what to start. It may be
            called again on the same place, with other ports. Raises MissingSoftwareError.
        answer: One real operation on the running server; returns its version, "" if it does not tell. Raises anything
            while it is not ready.
        address: What the setting of AURA takes.
        variables: Environment variables that point AURA at this server.
        ports: Names of the ports; `client` is the first.
        start_seconds: Deadline from the start of the process to the first answer.
        stop_seconds: Time for a clean stop, before SIGKILL.
        stop_signal: Asks for a clean stop.
    """

    name: str
    title: str
    port_setting: str
    prepare: Callable[[Place], Launch]
    answer: Callable[[Place], str]
    address: Callable[[Place], str]
    variables: Callable[[Place], Mapping[str, str]]
    ports: tuple[str, ...] = ("client",)
    start_seconds: float = 30.0
    stop_seconds: float = 10.0
    stop_signal: signal.Signals = signal.SIGTERM


def missing_extra(title: str) -> MissingSoftwareError:
    """The error for a client library that is not installed."""
    return MissingSoftwareError(f"{title} is reached through the extra `servers`: pip install 'aura[servers]'.")
