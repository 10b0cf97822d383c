"""A client of another process's store: it asks the owner, and reads what is in the arena by itself.

Belongs here: one owner, asked over its socket. Does not: finding or becoming the next owner (`remote`), answering
(`owner`, `answers`).

Every operation may be repeated safely: puts and deletes state what is to be, and a lost reply is asked for again.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aura.tiers.answers import IN_BODY
from aura.tiers.arena import ArenaView
from aura.tiers.codec import Encoded, decode, decode_verified, encode
from aura.tiers.errors import StoreUnavailableError
from aura.tiers.keys import check_keys
from aura.tiers.leases import NO_CLIENT, NO_LEASE, LeaseLine
from aura.tiers.owner import Address, read_address
from aura.tiers.records import Access, Entry, MoveReport, Operations, Steered, Tier, TierState
from aura.tiers.store import TieredStore
from aura.tiers.values import Part
from aura.tiers.wire import Message, Row, pack_values, raise_error, receive, send, unpack_values

LONG_CALL = 20
"""Moves, timings and checkpoints may take this many time-outs."""


class OwnerLostError(StoreUnavailableError):
    """The connection to the owner broke; another owner may answer."""


class OwnerClient(TieredStore):
    """One owner, asked over its socket. Any number of threads; each call takes an idle connection or makes one."""

    def __init__(self, directory: Path, timeout_seconds: float) -> None:
        """Connect.

        Raises:
            OwnerLostError: No owner answers at the address in the directory.
        """
        self.directory = directory
        self._timeout = timeout_seconds
        self._pid = os.getpid()
        self._idle: list[socket.socket] = []
        self._closed = False
        self._arena: ArenaView | None = None
        known = read_address(directory)
        if known is None:
            raise self._lost("it has not written its address yet")
        self._socket = known.socket
        self._address = Address(**json.loads(self._ask(Message("hello")).rows[0][0]))
        self._line: LeaseLine | None = None
        if self._address.arena:
            try:
                self._arena = ArenaView(Path(self._address.arena))
            except OSError as error:
                raise self._lost(f"its arena is gone, {error}") from error
            connection, reply = self._answered(self._connection(), Message("look"), 1)
            self._line = LeaseLine(connection, reply.rows[0][0])

    def get(self, key: str) -> Part:
        """See `TieredStore.get`."""
        return self.get_many([key])[key]

    def get_many(self, keys: Iterable[str]) -> dict[str, Part]:
        """See `TieredStore.get_many`. What is in the arena is read there: small objects are copied, large viewed."""
        wanted = list(keys)
        client = NO_CLIENT if self._line is None else self._line.client
        reply = self._ask(Message("get", [[client], *([key] for key in wanted)]))
        values = unpack_values(wanted, reply.segments)
        # All views first: a view gives its lease back by itself, whatever becomes of the others.
        views = {
            key: self._payload(offset, values[key].header.length, lease)
            for key, (offset, lease) in zip(wanted, reply.rows, strict=True)
            if offset != IN_BODY
        }
        return {
            key: self._from_arena(key, values[key], views[key]) if key in views else decode(values[key], key)
            for key in wanted
        }

    def write(self, puts: Mapping[str, Part], deletes: Iterable[str] = ()) -> None:
        """See `TieredStore.write`."""
        gone = list(deletes)
        check_keys(puts, gone)
        values = [encode(part, key) for key, part in puts.items()]
        rows = [["put", key] for key in puts] + [["delete", key] for key in gone]
        self._ask(Message("write", rows, pack_values(values)))

    def contains(self, key: str) -> bool:
        """See `TieredStore.contains`."""
        return bool(self._ask(Message("contains", [[key]])).rows[0][0])

    def entries(self, prefix: str = "") -> list[Entry]:
        """See `TieredStore.entries`."""
        rows = self._ask(Message("entries", [[prefix]])).rows
        return [Entry(key, number, kind, size, Tier(tier), pinned) for key, number, kind, size, tier, pinned in rows]

    def tiers(self) -> list[TierState]:
        """See `TieredStore.tiers`."""
        return [TierState(Tier(tier), *rest) for tier, *rest in self._ask(Message("tiers")).rows]

    def move(self, targets: Mapping[str, Tier]) -> MoveReport:
        """See `TieredStore.move`."""
        reply = self._ask(Message("move", [[key, str(tier)] for key, tier in targets.items()]), LONG_CALL)
        (promoted, demoted, bytes_moved, seconds), *refused = reply.rows
        return MoveReport(promoted, demoted, bytes_moved, seconds, tuple((key, reason) for key, reason in refused))

    def prefetch(self, keys: Iterable[str], tier: Tier = Tier.L1) -> None:
        """See `TieredStore.prefetch`."""
        self._ask(Message("prefetch", [[str(tier)], *([key] for key in keys)]))

    def pin(self, key: str, tier: Tier = Tier.L1) -> None:
        """See `TieredStore.pin`."""
        self._ask(Message("pin", [[key, str(tier)]]), LONG_CALL)

    def unpin(self, key: str) -> None:
        """See `TieredStore.unpin`."""
        self._ask(Message("unpin", [[key]]))

    def relieve(self, tier: Tier, size: int) -> int:
        """See `TieredStore.relieve`."""
        return int(self._ask(Message("relieve", [[str(tier), size]]), LONG_CALL).rows[0][0])

    def steered(self) -> Steered | None:
        """See `TieredStore.steered`."""
        rows = self._ask(Message("steered")).rows
        if not rows:
            return None
        following, switches, reads, objects, seconds, short = rows[0]
        return Steered(following, switches, reads, objects, seconds, None if short is None else (short[0], short[1]))

    def access_log(self) -> Access:
        """See `TieredStore.access_log`."""
        reply = self._ask(Message("access_log"))
        (total,), *keys = reply.rows
        return Access(np.frombuffer(reply.segments[0], dtype="<i4"), tuple(key for (key,) in keys), total)

    def operations(self, after: int = 0) -> Operations:
        """See `TieredStore.operations`."""
        reply = self._ask(Message("operations", [[after]]))
        (total, reads), *deleted = reply.rows
        rows = np.frombuffer(reply.segments[0], dtype="<i8").reshape(-1, 3)
        return Operations(rows, total, reads, {int(number): key for number, key in deleted})

    def trim_access_log(self, keep_last: int) -> None:
        """See `TieredStore.trim_access_log`."""
        if keep_last < 0:
            raise ValueError(f"keep_last is {keep_last}; it is a number of accesses, zero or more")
        self._ask(Message("trim_access_log", [[keep_last]]))

    def time_gets(self, keys: Sequence[str], tier: Tier | None = None) -> NDArray[np.float64]:
        """See `TieredStore.time_gets`."""
        rows: list[Row] = [[None if tier is None else str(tier)], *([key] for key in keys)]
        return np.frombuffer(self._ask(Message("time_gets", rows), LONG_CALL).segments[0], dtype="<f8")

    def time_puts(self, sizes: Sequence[int], tier: Tier) -> NDArray[np.float64]:
        """See `TieredStore.time_puts`."""
        rows: list[Row] = [[str(tier)], *([int(size)] for size in sizes)]
        return np.frombuffer(self._ask(Message("time_puts", rows), LONG_CALL).segments[0], dtype="<f8")

    def flush(self) -> None:
        """See `TieredStore.flush`."""
        self._ask(Message("flush"), LONG_CALL)

    def checkpoint(self, target: Path) -> None:
        """See `TieredStore.checkpoint`."""
        self._ask(Message("checkpoint", [[str(Path(target).absolute())]]), LONG_CALL)

    def close(self) -> None:
        """Hang up for good: another owner at the same address has another arena. Views stay what they are."""
        self._closed = True
        if self._line is not None:
            self._line.close()
        while self._idle:
            self._idle.pop().close()

    def _from_arena(self, key: str, encoded: Encoded, payload: bytes | memoryview) -> Part:
        if encoded.header.matches(payload):
            return decode_verified(encoded.header, payload, key)
        reply = self._ask(Message("reread", [[key]]))
        return decode(unpack_values([key], reply.segments)[key], key)

    def _payload(self, offset: int, length: int, lease: int) -> bytes | memoryview:
        """What is there in the arena; nothing where this process has none."""
        if self._arena is None:
            return b""
        if lease == NO_LEASE or self._line is None:
            return self._arena.read(offset, length)
        view: Any = self._arena.view(offset, length)
        self._line.bind(view, lease)
        return memoryview(view)

    def _ask(self, request: Message, patience: int = 1) -> Message:
        connection, reply = self._answered(self._connection(), request, patience)
        if self._closed:
            connection.close()
        else:
            self._idle.append(connection)
        raise_error(reply)
        return reply

    def _answered(self, connection: socket.socket, request: Message, patience: int) -> tuple[socket.socket, Message]:
        try:
            connection.settimeout(self._timeout)
            send(connection, request)
            return connection, receive(connection, self._timeout * patience, self._timeout)
        except TimeoutError as error:
            connection.close()
            raise StoreUnavailableError(
                f"The owner of the store did not answer {request.name!r} in {self._timeout * patience:g} seconds",
                path=str(self.directory),
                remedy="Give it more time (timeout_seconds), or end its process and open the store anew: `make up`, or "
                "`aura tiers serve`.",
            ) from error
        except OSError as error:
            connection.close()
            raise self._lost(str(error)) from error

    def _connection(self) -> socket.socket:
        if self._pid != os.getpid():  # a forked child must not talk into the parent's connections
            self._pid, self._idle = os.getpid(), []
        if self._closed:
            raise self._lost("the connection is closed")
        with suppress(IndexError):
            return self._idle.pop()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self._timeout)
        try:
            connection.connect(self._socket)
        except OSError as error:
            connection.close()
            raise self._lost(str(error)) from error
        return connection

    def _lost(self, cause: str) -> OwnerLostError:
        return OwnerLostError("The owner of the store cannot be reached", path=str(self.directory), cause=cause)
