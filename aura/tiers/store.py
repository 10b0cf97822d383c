"""The tiered store as everything else sees it: its interface, and how to open it.

Belongs here: the abstract `TieredStore`, `open_store` and `join_store`.
Does not: what it returns (`records`), any tier's mechanics (`disk`, `arena`, `device`), the owner's state (`local`),
the wire (`owner`, `client`).

An object is one `Part` (bytes, an Arrow table, or named arrays) under a key. L3 (RocksDB) always holds the durable
copy. At most one faster tier holds a further copy, so an object's tier is the fastest that holds it, and moving an
object down to L3 only drops a copy. Objects change tier by `move`, `pin` and `prefetch`, and by the owner's upkeep; a
new object lives in L3.

Whoever opens a directory first owns it and serves the other processes of the machine; they get the same interface. When
the owner dies, the next call of a client takes over, unless it only joined.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from aura.tiers.budgets import TierBudgets
from aura.tiers.records import Access, Entry, MoveReport, Operations, Steered, Tier, TierState
from aura.tiers.values import Part, Tensors

if TYPE_CHECKING:
    from aura.tiers.handle import Handle


class TieredStore(ABC):
    """Objects under keys on the tiers of this machine. Thread-safe; a context manager that closes itself.

    What `get` returns may be shared and is read-only, mappings and arrays alike: copy them before changing them. Arrays
    and tables that the owner reads from the arena are views of it, and their room is free when the last one is gone.
    Every method raises a `StoreError` that names the thing, the cause and the remedy.
    """

    directory: Path

    @abstractmethod
    def get(self, key: str) -> Part:
        """Read one object from the fastest tier that holds it and log the access.

        Raises:
            ObjectNotFoundError: No object has this key (also a KeyError).
            CorruptObjectError: The durable bytes fail their checksum. A bad copy in a faster tier is dropped instead
                and the object read from L3.
        """

    @abstractmethod
    def get_many(self, keys: Iterable[str]) -> dict[str, Part]:
        """Read several objects, in order of the keys, each access logged; one round trip for a client."""

    @abstractmethod
    def write(self, puts: Mapping[str, Part], deletes: Iterable[str] = ()) -> None:
        """Put and delete in one atomic batch that is on disk (WAL synced) when this returns: all of it or nothing.

        A key that exists keeps its id and falls back to L3; no reader sees the old value after this returned. A key
        in `deletes` that does not exist is no error.

        Raises:
            InvalidPartError: A key is empty, in both arguments, or a value cannot be stored; nothing was written.
            StorageError: The disk refused; nothing was written.
        """

    def put(self, key: str, part: Part) -> None:
        """Write one object, durable when this returns."""
        self.write({key: part})

    def delete(self, key: str) -> None:
        """Remove one object, durable when this returns; no error when there is none."""
        self.write({}, [key])

    def raw(self, key: str) -> Handle[bytes]:
        """A typed handle of the bytes under a key, which need not exist yet."""
        return _handle(self, key, bytes)

    def table(self, key: str) -> Handle[pa.Table]:
        """A typed handle of the Arrow table under a key, which need not exist yet."""
        return _handle(self, key, pa.Table)

    def tensors(self, key: str) -> Handle[Tensors]:
        """A typed handle of the named arrays under a key, which need not exist yet."""
        return _handle(self, key, Mapping)

    @abstractmethod
    def contains(self, key: str) -> bool:
        """Whether an object has this key. Not an access."""

    @abstractmethod
    def entries(self, prefix: str = "") -> list[Entry]:
        """All objects whose key starts with `prefix`, in order of the key."""

    @abstractmethod
    def tiers(self) -> list[TierState]:
        """The tiers that this store has, from fast to slow. A tier that the machine lacks is not in the list."""

    @abstractmethod
    def move(self, targets: Mapping[str, Tier]) -> MoveReport:
        """Bring each object to its target tier: copy, verify, flip the index, free the old copy.

        Demotions go first so that they make room. Never exceeds a capacity and evicts nothing that was not asked for:
        what does not fit, is pinned, does not exist, or has a tier that this store lacks stays where it is and is
        reported.
        """

    @abstractmethod
    def prefetch(self, keys: Iterable[str], tier: Tier = Tier.L1) -> None:
        """Have objects brought to a tier in the background; returns at once.

        What was not read for longest makes room, unless it is pinned. Keys that do not exist, objects that are in a
        faster tier, and those that do not fit even so are passed over.

        Raises:
            TierAbsentError: The store has no such tier.
        """

    @abstractmethod
    def pin(self, key: str, tier: Tier = Tier.L1) -> None:
        """Bring an object to a tier and keep it there: nothing demotes it until `unpin`, `delete`, or another `pin`.

        A put of a pinned object is followed by its promotion, in the background. Pins end with the owner.

        Raises:
            ObjectNotFoundError: No object has this key.
            TierAbsentError: The store has no such tier.
            CapacityError: It does not fit there.
        """

    @abstractmethod
    def unpin(self, key: str) -> None:
        """Let an object be demoted again; no error when it was not pinned."""

    @abstractmethod
    def relieve(self, tier: Tier, size: int) -> int:
        """Give memory of L0 or L1 back, for one who needs it more: the answer to an out-of-memory error.

        L1 demotes what was not read for longest, and grows again when there is memory. L0 gives at least half of its
        memory back to the device until the owner opens again; what was read last comes back to it in the background.
        L2 is taken when the owner opens and gives nothing back. The owner does this by itself when a control group,
        the machine or the device has next to nothing left.

        Args:
            tier: L0 or L1.
            size: Bytes that are wanted.

        Returns:
            Bytes that were given back, which may be more or fewer.

        Raises:
            TierAbsentError: The store has no such tier.
        """

    @abstractmethod
    def steered(self) -> Steered | None:
        """What the online layer does; None where it is off, or has not begun yet."""

    @abstractmethod
    def access_log(self) -> Access:
        """The latest accesses by all processes, at most one million; survives a restart."""

    @abstractmethod
    def operations(self, after: int = 0) -> Operations:
        """Puts, deletes and moves since the owner opened the store, but for the first `after` of them.

        At least the latest million is kept. The keys of the ids are in the access log.
        """

    @abstractmethod
    def trim_access_log(self, keep_last: int) -> None:
        """Forget all but the last `keep_last` accesses."""

    @abstractmethod
    def time_gets(self, keys: Sequence[str], tier: Tier | None = None) -> NDArray[np.float64]:
        """Seconds of one get per key, in order, measured in the owner's process; not logged, not counted in `tiers`.

        With `tier` None each object is read from where it lives. Otherwise it is read from that tier; an object
        without a copy there gets one for the time of its measurement.

        Returns:
            float64[len(keys)], seconds.

        Raises:
            TierAbsentError: The store has no such tier.
            CapacityError: A copy that the measurement needs does not fit beside what the tier holds.
        """

    @abstractmethod
    def time_puts(self, sizes: Sequence[int], tier: Tier) -> NDArray[np.float64]:
        """Seconds of writing an object of each size (bytes of payload) into a tier by the code that real writes use.

        Each object is removed again before the next is written; none of them is ever visible.

        Returns:
            float64[len(sizes)], seconds.

        Raises:
            TierAbsentError: The store has no such tier.
            CapacityError: An object of that size does not fit beside what the tier holds.
        """

    @abstractmethod
    def flush(self) -> None:
        """Write what the database buffers in memory to its files. It is durable before; reads come from the files then.

        Raises:
            StorageError: The disk refused.
        """

    @abstractmethod
    def checkpoint(self, target: Path) -> None:
        """Make a consistent copy of the durable state in the new directory `target`, itself a store directory."""

    @abstractmethod
    def close(self) -> None:
        """Release everything; closing twice is fine. An owner's clients take over with their next call."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _handle(store: TieredStore, key: str, kind: type) -> Handle[Any]:
    from aura.tiers.handle import Handle  # it imports this module

    return Handle(store, key, kind)


def open_store(
    directory: Path, *, budgets: TierBudgets, device: str | None = None, timeout_seconds: float = 30
) -> TieredStore:
    """Open the store in a directory: as its owner when it has none, else as a client of the owner.

    Args:
        directory: The store's directory; made when it does not exist.
        budgets: Bytes per fast tier; used if this process is or becomes the owner.
        device: Torch device of L0, such as "cuda:0". None takes "cuda" where there is one and otherwise leaves L0 out.
            L0 also needs `budgets.device_bytes` above zero.
        timeout_seconds: Longest wait for the owner in one call (twenty times as long for moves, timings, checkpoints).

    Returns:
        The owner's store or a client's; same interface.

    Raises:
        StorageError: The directory cannot be used: permission, disk full, not a directory.
        CorruptStoreError: The database in it cannot be read.
        StoreUnavailableError: It has an owner that does not answer in time.
        CapacityError: A budget is larger than the memory that is there.
    """
    from aura.tiers.remote import open_or_join  # the implementation imports this module

    return open_or_join(Path(directory), budgets=budgets, device=device, timeout_seconds=timeout_seconds)


def join_store(directory: Path, *, timeout_seconds: float = 30) -> TieredStore:
    """Open the store in a directory as a client and never as its owner, now or later: for those who only look on.

    While nobody owns the store each call raises `StoreUnavailableError` at once; the first call after another process
    has opened it is answered again.

    Args:
        directory: The store's directory; never made.
        timeout_seconds: Longest wait for the owner in one call (twenty times as long for moves, timings, checkpoints).

    Raises:
        StoreUnavailableError: No owner answers; the remedy says how to start one.
    """
    from aura.tiers.remote import join  # the implementation imports this module

    return join(Path(directory), timeout_seconds=timeout_seconds)
