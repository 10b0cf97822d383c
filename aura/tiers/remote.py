"""The store of another process, and the take-over when that process dies.

Belongs here: finding or becoming the next owner, `open_or_join`, `join`. Does not: asking one owner (`client`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from aura.tiers.budgets import TierBudgets
from aura.tiers.client import OwnerClient, OwnerLostError
from aura.tiers.errors import StorageError, StoreClosedError, StoreUnavailableError
from aura.tiers.local import LocalStore
from aura.tiers.owner import own
from aura.tiers.records import Access, Entry, MoveReport, Operations, Steered, Tier, TierState
from aura.tiers.store import TieredStore
from aura.tiers.values import Part

Result = TypeVar("Result")

_RETRY_SECONDS = 0.02
_MAX_ATTEMPTS = 5


class Way(Protocol):
    """How this process gets at a store, now and after its owner was lost."""

    @property
    def directory(self) -> Path:
        """The store's directory."""
        ...

    def open(self) -> LocalStore | OwnerClient:
        """Get at it, or raise StoreUnavailableError."""
        ...


@dataclass(frozen=True)
class Joining:
    """Always as a client of the owner."""

    directory: Path
    timeout_seconds: float

    def open(self) -> OwnerClient:
        """Connect to the owner.

        Raises:
            StoreUnavailableError: There is none that answers.
        """
        try:
            return OwnerClient(self.directory, self.timeout_seconds)
        except OwnerLostError as error:
            raise StoreUnavailableError(
                "The store has no owner that answers",
                path=str(self.directory),
                cause=error.cause,
                remedy="Start one: `make up` runs the whole stack, `aura tiers serve` the owner alone.",
            ) from error


@dataclass(frozen=True)
class Opening:
    """As the owner if there is none."""

    directory: Path
    budgets: TierBudgets
    device: str | None
    timeout_seconds: float

    def open(self) -> LocalStore | OwnerClient:
        """Own the directory or connect to its owner, whichever works first within the time-out.

        Raises:
            StoreUnavailableError: Neither did.
        """
        deadline = time.monotonic() + self.timeout_seconds
        while True:
            owned = own(self.directory, self.budgets, self.device, self.timeout_seconds)
            if owned is not None:
                return owned
            try:
                return OwnerClient(self.directory, self.timeout_seconds)
            except OwnerLostError as error:
                if time.monotonic() > deadline:
                    raise StoreUnavailableError(
                        "The store has an owner that cannot be reached",
                        path=str(self.directory),
                        cause=error.cause,
                        remedy="Stop the process that holds owner.lock there, or give it more time (timeout_seconds).",
                    ) from error
            time.sleep(_RETRY_SECONDS)


def open_or_join(
    directory: Path, *, budgets: TierBudgets, device: str | None, timeout_seconds: float
) -> LocalStore | RemoteStore:
    """See `aura.tiers.store.open_store`."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = directory.resolve(strict=True)
    except OSError as error:
        remedy = "Name a directory that this user may write to."
        raise StorageError("Cannot open the store", path=str(directory), cause=str(error), remedy=remedy) from error
    opening = Opening(directory, budgets, device, timeout_seconds)
    backend = opening.open()
    return backend if isinstance(backend, LocalStore) else RemoteStore(opening, backend)


def join(directory: Path, *, timeout_seconds: float) -> RemoteStore:
    """See `aura.tiers.store.join_store`."""
    joining = Joining(directory.absolute(), timeout_seconds)
    return RemoteStore(joining, joining.open())


class RemoteStore(TieredStore):
    """A store that another process owns; when that owner dies, the next call opens the store again."""

    def __init__(self, way: Way, backend: LocalStore | OwnerClient) -> None:
        self.directory = way.directory
        self._way = way
        self._backend = backend
        self._lock = threading.Lock()
        self._closed = False

    @property
    def owns(self) -> bool:
        """Whether this process has taken over."""
        return isinstance(self._backend, LocalStore)

    def get(self, key: str) -> Part:
        """See `TieredStore.get`."""
        return self._call(lambda store: store.get(key))

    def get_many(self, keys: Iterable[str]) -> dict[str, Part]:
        """See `TieredStore.get_many`."""
        wanted = list(keys)
        return self._call(lambda store: store.get_many(wanted))

    def write(self, puts: Mapping[str, Part], deletes: Iterable[str] = ()) -> None:
        """See `TieredStore.write`."""
        gone = list(deletes)
        self._call(lambda store: store.write(puts, gone))

    def contains(self, key: str) -> bool:
        """See `TieredStore.contains`."""
        return self._call(lambda store: store.contains(key))

    def entries(self, prefix: str = "") -> list[Entry]:
        """See `TieredStore.entries`."""
        return self._call(lambda store: store.entries(prefix))

    def tiers(self) -> list[TierState]:
        """See `TieredStore.tiers`."""
        return self._call(lambda store: store.tiers())

    def move(self, targets: Mapping[str, Tier]) -> MoveReport:
        """See `TieredStore.move`."""
        return self._call(lambda store: store.move(targets))

    def prefetch(self, keys: Iterable[str], tier: Tier = Tier.L1) -> None:
        """See `TieredStore.prefetch`."""
        wanted = list(keys)
        self._call(lambda store: store.prefetch(wanted, tier))

    def pin(self, key: str, tier: Tier = Tier.L1) -> None:
        """See `TieredStore.pin`."""
        self._call(lambda store: store.pin(key, tier))

    def unpin(self, key: str) -> None:
        """See `TieredStore.unpin`."""
        self._call(lambda store: store.unpin(key))

    def relieve(self, tier: Tier, size: int) -> int:
        """See `TieredStore.relieve`."""
        return self._call(lambda store: store.relieve(tier, size))

    def steered(self) -> Steered | None:
        """See `TieredStore.steered`."""
        return self._call(lambda store: store.steered())

    def access_log(self) -> Access:
        """See `TieredStore.access_log`."""
        return self._call(lambda store: store.access_log())

    def operations(self, after: int = 0) -> Operations:
        """See `TieredStore.operations`."""
        return self._call(lambda store: store.operations(after))

    def trim_access_log(self, keep_last: int) -> None:
        """See `TieredStore.trim_access_log`."""
        self._call(lambda store: store.trim_access_log(keep_last))

    def time_gets(self, keys: Sequence[str], tier: Tier | None = None) -> NDArray[np.float64]:
        """See `TieredStore.time_gets`."""
        return self._call(lambda store: store.time_gets(keys, tier))

    def time_puts(self, sizes: Sequence[int], tier: Tier) -> NDArray[np.float64]:
        """See `TieredStore.time_puts`."""
        return self._call(lambda store: store.time_puts(sizes, tier))

    def flush(self) -> None:
        """See `TieredStore.flush`."""
        self._call(lambda store: store.flush())

    def checkpoint(self, target: Path) -> None:
        """See `TieredStore.checkpoint`."""
        self._call(lambda store: store.checkpoint(target))

    def close(self) -> None:
        """See `TieredStore.close`."""
        with self._lock:
            self._closed = True
            self._backend.close()

    def _call(self, operation: Callable[[TieredStore], Result]) -> Result:
        for _ in range(_MAX_ATTEMPTS):
            if self._closed:
                raise StoreClosedError("The store is closed", path=str(self.directory), remedy="Open it again.")
            backend = self._backend
            try:
                return operation(backend)
            except OwnerLostError:
                self._find_owner(backend)
        raise StoreUnavailableError(
            f"The owner of the store hung up {_MAX_ATTEMPTS} times on the same request",
            path=str(self.directory),
            remedy="See the owner's log: a request that breaks it, or memory pressure that kills it.",
        )

    def _find_owner(self, lost: LocalStore | OwnerClient) -> None:
        with self._lock:
            if self._backend is not lost or self._closed:
                return
            lost.close()
            self._backend = self._way.open()
