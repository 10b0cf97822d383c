"""Owning a store: the lock on its directory, the address that clients find, the server that answers them.

Belongs here: becoming the owner, and serving. Does not: the client (`remote`), what an answer is made of (`local`).

The lock is a `flock` on a file in the directory, which the kernel releases when the owner dies however it dies. The
address is written beside it. The socket itself lives in a short private directory, since its path is limited to 108
bytes.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import logging
import os
import secrets
import socket
import stat
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

from aura.tiers import device as device_memory
from aura.tiers.access_log import AccessLog
from aura.tiers.allocation import keep_large_buffers
from aura.tiers.answers import answer
from aura.tiers.arena import Arena, open_arena
from aura.tiers.budgets import TierBudgets
from aura.tiers.copies import ArenaTier, DeviceTier, FastTier, ProcessTier
from aura.tiers.disk import Disk
from aura.tiers.errors import StorageError, StoreClosedError, StoreError
from aura.tiers.leases import Leases
from aura.tiers.local import DATABASE, LocalStore
from aura.tiers.pressure import MemoryWatch
from aura.tiers.redis_pool import RedisTier
from aura.tiers.wire import Message, error_message, receive, send

logger = logging.getLogger(__name__)

ACCEPT_PAUSE_SECONDS = 0.1
"""Rest after a client could not be accepted, so that a lack of file descriptors does not spin."""

LOCK_FILE = "owner.lock"
ADDRESS_FILE = "owner.json"
_PATH_LIMIT = 107
_BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Address:
    """Where the owner of a store is found.

    `token` differs between owners. `lock` is the inode of the lock that the owner holds: in a copy of the directory it
    is another, whose owner this is not.
    """

    lock: int
    pid: int
    token: str
    socket: str
    arena: str


def own(directory: Path, budgets: TierBudgets, device: str | None, timeout_seconds: float) -> LocalStore | None:
    """Become the owner of a directory and serve it, or None when it has an owner.

    Raises:
        StoreError: As in `open_store`.
    """
    with ExitStack() as stack:
        lock = _try_lock(directory)
        if lock is None:
            return None
        stack.callback(os.close, lock)
        keep_large_buffers()
        name = blake2b(str(directory).encode(), digest_size=8).hexdigest()
        disk = Disk(directory / DATABASE)
        on_failure = stack.enter_context(ExitStack())
        on_failure.callback(disk.close)
        fast, arena = _fast_tiers(name, directory, budgets, device, on_failure)
        store = LocalStore(directory, disk, fast, AccessLog(disk.batches()))
        on_failure.pop_all()
        stack.callback(store.close_tiers)
        server = Server(store, socket_path(name), timeout_seconds)
        stack.callback(server.stop)
        held, where = os.fstat(lock).st_ino, str(arena.path) if arena else ""
        address = Address(held, os.getpid(), secrets.token_hex(8), str(server.path), where)
        _publish(directory, address)
        server.start(address)
        _OWNED[store] = (lock, server)
        stack.callback(_OWNED.pop, store)
        store.upkeep.start(budgets.background_bytes_per_second, online=budgets.online)
        stack.callback(store.upkeep.stop)
        store.closing = stack.pop_all()
    return store


def read_address(directory: Path) -> Address | None:
    """The address that the present owner, or one that died, wrote.

    None when there is none, it is damaged, or it came here with a copy of another store: the lock decides who owns, and
    every new owner writes the address again.
    """
    try:
        address = Address(**json.loads((directory / ADDRESS_FILE).read_text()))
        return address if address.lock == (directory / LOCK_FILE).stat().st_ino else None
    except (FileNotFoundError, ValueError, TypeError):
        return None


def socket_path(name: str) -> Path:
    """A path short enough for a socket, in a directory that only this user can enter.

    Raises:
        StorageError: There is no such place.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    base = Path(runtime) if runtime and Path(runtime).is_dir() else Path(tempfile.gettempdir())
    private = base / f"aura-{os.getuid()}"
    path = private / f"{name}.sock"
    remedy = "Set XDG_RUNTIME_DIR to a short path of a directory that belongs to this user."
    if len(os.fsencode(path)) > _PATH_LIMIT:
        cause = f"the path has {len(os.fsencode(path))} bytes, the limit is {_PATH_LIMIT}"
        raise StorageError("Cannot make a socket", path=str(path), cause=cause, remedy=remedy)
    try:
        private.mkdir(mode=0o700, exist_ok=True)
        found = private.lstat()
    except OSError as error:
        raise StorageError("Cannot make a socket", path=str(path), cause=str(error), remedy=remedy) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        cause = "it is not a directory that this user owns with mode 0700"
        raise StorageError("Cannot make a socket", path=str(private), cause=cause, remedy=remedy)
    return path


class Server:
    """Answers clients: one thread accepts, one thread per connection."""

    def __init__(self, store: LocalStore, path: Path, timeout_seconds: float) -> None:
        """Bind. Only the holder of the store's lock does this, so a socket that is there is a dead owner's."""
        self.path = path
        self._store = store
        self._leases = Leases()
        self._timeout = timeout_seconds
        self._address: Address | None = None
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._stopped = False
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.bind(str(path))
            path.chmod(0o600)
            self._listener.listen(_BACKLOG)
        except OSError as error:
            self._listener.close()
            raise StorageError("Cannot serve the store", path=str(path), cause=str(error)) from error

    def start(self, address: Address) -> None:
        """Answer from now on."""
        self._address = address
        threading.Thread(target=self._accept, name="aura-store-accept", daemon=True).start()

    def stop(self) -> None:
        """Close every connection; the clients look for another owner."""
        with self._lock:
            self._stopped = True
            connections = list(self._connections)
        with suppress(OSError):  # wakes the accepting thread; not connected is fine
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.path.unlink(missing_ok=True)
        for connection in connections:
            with suppress(OSError):  # the client may have gone first
                connection.shutdown(socket.SHUT_RDWR)

    def forget(self) -> None:
        """In a forked child: close the child's copies of the sockets, so that clients notice the parent's death."""
        self._listener.close()
        for connection in self._connections:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if self._stopped:
                    return
                # Out of file descriptors, or a client that hung up while it knocked: the others still want answers.
                logger.warning("a client could not be accepted: %s", error)
                time.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            with self._lock:
                if self._stopped:
                    connection.close()
                    return
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), name="aura-store-client", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        """One client until it hangs up. A closed store hangs up too, since the client has to find the next owner."""
        try:
            while True:
                request = receive(connection, None, self._timeout)
                if request.name == "look":
                    client = self._leases.admit()
                    send(connection, Message("look", [[client]]))
                    self._leases.listen(client, connection)
                    return
                address = json.dumps(asdict(self._address)) if self._address else ""
                try:
                    reply = answer(self._store, address, self._leases, request)
                except StoreClosedError:
                    return
                except StoreError as error:
                    reply = error_message(error)
                send(connection, reply)
        except OSError as error:
            logger.debug("a client of %s hung up: %s", self._store.directory, error)
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()


_OWNED: dict[LocalStore, tuple[int, Server]] = {}
"""The open stores of this process with their lock and server."""
_INHERITED: list[object] = []


def _leave_to_parent() -> None:
    """In a forked child: let go of the parent's lock and sockets, and never run RocksDB's destructors.

    A child that kept the lock would keep it after the parent's death; a child that closed the database would write.
    """
    for store, (lock, server) in list(_OWNED.items()):
        os.close(lock)
        server.forget()
        _INHERITED.append((store, store.disk.handles()))
        store.abandon()
    _OWNED.clear()


def _close_all() -> None:
    """At exit: save the access logs and give the shared memory back, which otherwise waits for the next owner."""
    for store in list(_OWNED):
        store.close()


os.register_at_fork(after_in_child=_leave_to_parent)
atexit.register(_close_all)


def _fast_tiers(
    name: str, directory: Path, budgets: TierBudgets, device: str | None, on_failure: ExitStack
) -> tuple[list[FastTier], Arena | None]:
    fast: list[FastTier] = []
    arena = None
    if budgets.process_bytes:
        fast.append(ProcessTier(budgets.process_bytes, MemoryWatch()))
    if budgets.arena_bytes and budgets.warm_pool is not None:
        pool = RedisTier(budgets.warm_pool, directory, budgets.arena_bytes)
        on_failure.callback(pool.close)
        fast.append(pool)
    elif budgets.arena_bytes:
        arena = open_arena(name, directory, budgets.arena_bytes)
        on_failure.callback(arena.close)
        fast.append(ArenaTier(arena))
    if budgets.device_bytes:
        found = device or device_memory.default_device()
        if found:
            slab = device_memory.largest_slab(found, budgets.device_bytes)
            fast += [DeviceTier(slab)] if slab is not None else []
    return fast, arena


def _try_lock(directory: Path) -> int | None:
    path = directory / LOCK_FILE
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        remedy = "See that the directory exists and that this user may write to it."
        raise StorageError("Cannot open the store", path=str(path), cause=str(error), remedy=remedy) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def _publish(directory: Path, address: Address) -> None:
    path = directory / ADDRESS_FILE
    fresh = path.with_suffix(".fresh")
    try:
        fresh.write_text(json.dumps(asdict(address)))
        fresh.replace(path)
    except OSError as error:
        raise StorageError("Cannot write the store's address", path=str(path), cause=str(error)) from error
