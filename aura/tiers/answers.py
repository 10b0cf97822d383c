"""What the owner answers to each request of a client.

Belongs here: one function per message, from rows and segments to a call of the store and back.
Does not: sockets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np

from aura.tiers.codec import Encoded, verify
from aura.tiers.copies import Record
from aura.tiers.errors import StoreError
from aura.tiers.leases import NO_LEASE, Leases
from aura.tiers.local import LocalStore
from aura.tiers.records import Tier
from aura.tiers.wire import Message, pack_values, unpack_values

IN_BODY = -1
"""In place of an arena offset: the payload is in the reply."""


def answer(store: LocalStore, address: str, leases: Leases, request: Message) -> Message:
    """The reply to one request.

    Args:
        store: The owner's store.
        address: The owner's address as JSON, for "hello".
        leases: Who looks at what in the arena.
        request: What the client sent.

    Raises:
        StoreError: As the store's methods do.
    """
    if request.name == "hello":
        return Message("hello", [[address]])
    if request.name == "get":
        return _get(store, leases, request)
    if request.name not in _ANSWERS:
        raise StoreError(f"The owner does not know the request {request.name!r}", remedy="Run one version of aura.")
    return _ANSWERS[request.name](store, request)


def _get(store: LocalStore, leases: Leases, request: Message) -> Message:
    """Rows [client], then [key]; reply: rows [arena offset or IN_BODY, lease], segments header, payload or nothing."""
    (client,), *keys = request.rows
    found: list[Record | Encoded] = [store.locate(key) or store.read_encoded(key, log=True) for (key,) in keys]
    # Only now, since a key that is not there ends the request, and nobody would give the leases back.
    rows = [
        [each.slot, leases.give(client, each)] if isinstance(each, Record) else [IN_BODY, NO_LEASE] for each in found
    ]
    values = [Encoded(each.header, b"") if isinstance(each, Record) else each for each in found]
    return Message("get", rows, pack_values(values))


def _reread(store: LocalStore, request: Message) -> Message:
    """Rows [key]; like "get" but always in the reply and not logged: for a slot that was reused under the client."""
    values = [store.read_encoded(key, log=False) for (key,) in request.rows]
    return Message("reread", [[IN_BODY] for _ in values], pack_values(values))


def _write(store: LocalStore, request: Message) -> Message:
    """Rows ["put" or "delete", key], segments header, payload of every put."""
    puts = unpack_values([key for verb, key in request.rows if verb == "put"], request.segments)
    for key, encoded in puts.items():
        verify(encoded, key)
    own = {key: Encoded(encoded.header, bytes(encoded.payload)) for key, encoded in puts.items()}
    store.write_encoded(own, [key for verb, key in request.rows if verb == "delete"])
    return Message("write")


def _contains(store: LocalStore, request: Message) -> Message:
    return Message("contains", [[store.contains(key)] for (key,) in request.rows])


def _entries(store: LocalStore, request: Message) -> Message:
    return Message("entries", [list(astuple(entry)) for entry in store.entries(request.rows[0][0])])


def _tiers(store: LocalStore, request: Message) -> Message:
    del request
    return Message("tiers", [list(astuple(state)) for state in store.tiers()])


def _move(store: LocalStore, request: Message) -> Message:
    """Rows [key, tier]; reply: one row of counts, then rows [key, reason]."""
    report = store.move({key: Tier(tier) for key, tier in request.rows})
    counts = [report.promoted, report.demoted, report.bytes_moved, report.seconds]
    return Message("move", [counts, *([key, reason] for key, reason in report.refused)])


def _prefetch(store: LocalStore, request: Message) -> Message:
    """Rows [tier], then [key]."""
    (tier,), *keys = request.rows
    store.prefetch([key for (key,) in keys], Tier(tier))
    return Message("prefetch")


def _pin(store: LocalStore, request: Message) -> Message:
    key, tier = request.rows[0]
    store.pin(key, Tier(tier))
    return Message("pin")


def _unpin(store: LocalStore, request: Message) -> Message:
    store.unpin(request.rows[0][0])
    return Message("unpin")


def _relieve(store: LocalStore, request: Message) -> Message:
    tier, size = request.rows[0]
    return Message("relieve", [[store.relieve(Tier(tier), size)]])


def _steered(store: LocalStore, request: Message) -> Message:
    """One row, or none."""
    del request
    state = store.steered()
    return Message("steered", [] if state is None else [list(astuple(state))])


def _access_log(store: LocalStore, request: Message) -> Message:
    del request
    access = store.access_log()
    rows: list[list[Any]] = [[access.total], *([key] for key in access.keys)]
    return Message("access_log", rows, [access.ids.astype("<i4").tobytes()])


def _operations(store: LocalStore, request: Message) -> Message:
    """Rows [after]; reply: rows [total, reads], then [id, key] of what was deleted, one segment int64[n, 3]."""
    found = store.operations(request.rows[0][0])
    rows: list[list[Any]] = [[found.total, found.reads], *([number, key] for number, key in found.deleted.items())]
    return Message("operations", rows, [found.rows.astype("<i8").tobytes()])


def _trim_access_log(store: LocalStore, request: Message) -> Message:
    store.trim_access_log(request.rows[0][0])
    return Message("trim_access_log")


def _time_gets(store: LocalStore, request: Message) -> Message:
    """Rows [tier or None], then [key]."""
    (tier,), *keys = request.rows
    seconds = store.time_gets([key for (key,) in keys], None if tier is None else Tier(tier))
    return Message("time_gets", [], [seconds.astype(np.dtype("<f8")).tobytes()])


def _time_puts(store: LocalStore, request: Message) -> Message:
    """Rows [tier], then [size]."""
    (tier,), *sizes = request.rows
    seconds = store.time_puts([size for (size,) in sizes], Tier(tier))
    return Message("time_puts", [], [seconds.astype(np.dtype("<f8")).tobytes()])


def _flush(store: LocalStore, request: Message) -> Message:
    del request
    store.flush()
    return Message("flush")


def _checkpoint(store: LocalStore, request: Message) -> Message:
    store.checkpoint(Path(request.rows[0][0]))
    return Message("checkpoint")


_ANSWERS: dict[str, Callable[[LocalStore, Message], Message]] = {
    "reread": _reread,
    "write": _write,
    "contains": _contains,
    "entries": _entries,
    "tiers": _tiers,
    "move": _move,
    "prefetch": _prefetch,
    "pin": _pin,
    "unpin": _unpin,
    "relieve": _relieve,
    "steered": _steered,
    "access_log": _access_log,
    "operations": _operations,
    "trim_access_log": _trim_access_log,
    "time_gets": _time_gets,
    "time_puts": _time_puts,
    "flush": _flush,
    "checkpoint": _checkpoint,
}
