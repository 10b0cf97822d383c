"""Ports of the native servers: chosen once, kept for the next start.

They are chosen below the range that the kernel gives to outgoing connections: while a server is down, a client that
reconnects to a port inside that range can be handed the very same port as its own and then talks to itself.
"""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Mapping
from pathlib import Path

from aura.services.recipe import Place, Recipe, ServerError
from aura.settings import LOOPBACK, variable_of

_FIRST, _LAST = 15_000, 32_000
_TRIES = 200


def place_of(recipe: Recipe, directory: Path, *, port: int | None, chosen: random.Random) -> Place:
    """The place of a server: the ports of its last start, `port` for the clients if given, free ones for the rest.

    Args:
        recipe: The kind of server.
        directory: Its directory, which must exist.
        port: Port that the settings ask for.
        chosen: Source of the candidates.

    Returns:
        The place; its ports are on disk.
    """
    file = directory / "ports.json"
    kept: Mapping[str, int] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    ports = {name: kept[name] if name in kept else _free_port(chosen) for name in recipe.ports}
    if port is not None:
        ports["client"] = port
    if ports != kept:
        draft = file.with_suffix(".draft")
        draft.write_text(json.dumps(ports), encoding="utf-8")
        draft.replace(file)
    return Place(directory, ports)


def require_free(recipe: Recipe, place: Place) -> None:
    """Check that the ports can be listened on.

    Raises:
        ServerError: One is taken; the message names it and the setting.
    """
    for name, port in place.ports.items():
        reason = _obstacle(port)
        if reason is not None:
            remedy = (
                f"Stop what listens there, or set {variable_of(recipe.port_setting)} to another port."
                if name == "client"
                else f"Stop what listens there, or remove {place.directory / 'ports.json'} to have others chosen."
            )
            raise ServerError(f"{recipe.title} cannot have its port {port} on {LOOPBACK} ({reason}). {remedy}")


def listening(port: int) -> bool:
    """Whether something accepts connections on this port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0


def _free_port(chosen: random.Random) -> int:
    for _ in range(_TRIES):
        port = chosen.randrange(_FIRST, _LAST)
        if _obstacle(port) is None:
            return port
    raise ServerError(f"No free port on {LOOPBACK} between {_FIRST} and {_LAST} in {_TRIES} tries.")


def _obstacle(port: int) -> str | None:
    with socket.socket() as probe:
        # As the servers do: connections of an earlier server that linger are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            return error.strerror
    return None
