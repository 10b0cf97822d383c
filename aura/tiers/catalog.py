"""Published values: typed values under a name and a partition, replaced as a whole or not at all.

Belongs here: publish, find, load, withdraw, sweep. Does not: the records and errors (`published.py`), what values mean,
how they are made, or where their blocks live (`placement.py`).

Write, check, publish: blocks are written under keys that contain the digest of the content, read back from disk with
their checksums verified, and only then the pointer is flipped, in one durable batch that also removes every block of
the value that the new pointer does not name. Whoever is killed on the way leaves the old version in place, and blocks
that the next publication of the same value, or `Catalog.sweep`, removes.

Publishers of the same value take turns on a file lock, which the system releases when a process dies. Readers take no
lock: one whose blocks vanish under it starts again from the new pointer.
"""

from __future__ import annotations

import importlib
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TypeVar, cast

import pyarrow as pa
import xxhash
from filelock import FileLock, Timeout

from aura.tiers.blocks import content_version, cut, join, rough_bytes
from aura.tiers.errors import CorruptObjectError, ObjectNotFoundError, StoreError
from aura.tiers.places import POINTERS, VALUES, blocks_prefix, named_by, place_of, pointer_key
from aura.tiers.published import (
    DAMAGE,
    DamagedValueError,
    Draft,
    Published,
    PublishedPart,
    PublisherBusyError,
    ValueNotPublishedError,
    ValueTypeError,
)
from aura.tiers.records import Tier
from aura.tiers.store import TieredStore
from aura.tiers.tables import ValueSchemaError
from aura.tiers.values import Part, StoredValue

logger = logging.getLogger(__name__)

LOCKS = 64
"""Lock files in a store, shared by all values through a hash of their name, so that their number stays bounded."""

LOCK_SECONDS = 600.0
"""Longest wait for another publisher of the same value."""

WRITE_BYTES = 32 << 20
"""Blocks are written in batches of about this size; nothing sees them before the pointer is flipped."""

PART_NAME = re.compile(r"[a-z0-9-]+")

Value = TypeVar("Value", bound=StoredValue)


class Catalog:
    """Typed values in a tiered store. Any number of processes and threads may use catalogs on the same store."""

    def __init__(self, store: TieredStore, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Use a store, which stays the caller's to close.

        Args:
            store: Where the values live.
            clock: Gives the time for `Published.created_at`, with its time zone.
        """
        self.store = store
        self._clock = clock
        self._locks = store.directory / "publishing"
        self._locks.mkdir(parents=True, exist_ok=True)

    def prepare(self, value: StoredValue) -> Draft:
        """Take a value apart and digest its content, without touching the store.

        Raises:
            ValueTypeError: The type is local to a function, or a part's name is not `[a-z0-9-]+`.
            InvalidPartError: A part is of no kind that the store keeps.
        """
        type_name = _type_name(type(value))
        parts = {part: cut(content) for part, content in sorted(_named_parts(value, type_name).items())}
        version, size = content_version(parts)
        rows = sum(block.num_rows for blocks in parts.values() for block in blocks if isinstance(block, pa.Table))
        return Draft(type_name, version, rows, size, parts)

    def publish(
        self, name: str, value: StoredValue | Draft, *, partition: str | None, provenance: Mapping[str, str]
    ) -> Published:
        """Make a value the current one of its name and partition, durably, as a whole.

        A value equal to the published one keeps its blocks, and their places; only the pointer is written.

        Args:
            name: Any text.
            value: The value, or its draft from `prepare`.
            partition: Any text, or None.
            provenance: What the value was made from and with.

        Raises:
            ValueTypeError: See `prepare`.
            PublisherBusyError: Another publisher of this value did not finish.
            StoreError: The store failed; what was published before still is.
        """
        draft = value if isinstance(value, Draft) else self.prepare(value)
        prefix = blocks_prefix(name, partition)
        keys = {
            part: tuple(f"{prefix}{draft.version}/{part}/{number:06d}" for number in range(len(blocks)))
            for part, blocks in draft.parts.items()
        }
        blocks = {key: block for part in keys for key, block in zip(keys[part], draft.parts[part], strict=True)}
        published = Published(
            name=name,
            partition=partition,
            type_name=draft.type_name,
            version=draft.version,
            provenance=dict(provenance),
            rows=draft.rows,
            bytes=draft.bytes,
            created_at=self._clock().astimezone(UTC).isoformat(),
            parts=tuple(PublishedPart(part, keys[part]) for part in keys),
        )
        with self._publishing(name, partition):
            there = {entry.key for entry in self.store.entries(prefix)}
            if not (blocks.keys() <= there and self._readable(published.keys)):
                self._write_blocks(blocks)
                self._verify(published.keys)
            pointer = json.dumps(asdict(published), sort_keys=True).encode()
            self.store.write({pointer_key(name, partition): pointer}, there - blocks.keys())
        return published

    def find(self, name: str, partition: str | None) -> Published | None:
        """What is published there, without reading it; None if nothing is, DamagedValueError if it is no pointer."""
        return self._read_pointer(pointer_key(name, partition))

    def load(self, name: str, partition: str | None) -> StoredValue:
        """Load a value as the type that its pointer names.

        Raises:
            ValueNotPublishedError: Nothing is published there; the message says what is.
            ValueTypeError: The type is not of the package `aura`, is gone, or cannot be put together from parts.
            DamagedValueError: Blocks are missing; CorruptObjectError: one fails its checksum.
            ValueSchemaError: The parts are not those that the type expects.
        """
        return self.load_published(name, partition)[0]

    def load_published(self, name: str, partition: str | None) -> tuple[StoredValue, Published]:
        """Load a value as `load` does, and say which one it is, even if another is published at the same time."""
        return self._load(name, partition, _imported_type)

    def load_as(self, kind: type[Value], name: str, partition: str | None) -> Value:
        """Load a value of a known type, of any module; otherwise like `load`.

        Raises:
            ValueTypeError: Another type is published there.
        """

        def expected(published: Published) -> type[StoredValue]:
            if published.type_name != _type_name(kind):
                raise ValueTypeError(
                    f"{_shown(name, partition)} is a {published.type_name}, not a {_type_name(kind)}: ask for the type"
                    " that was published, or publish it again"
                )
            return kind

        return cast("Value", self._load(name, partition, expected)[0])

    def load_previous(self, kind: type[Value], name: str, partition: str | None) -> Value | None:
        """Like `load_as`, for who publishes there next.

        None if there is nothing, or, with a warning, if it is damaged, of another type, or of an older form of it.
        """
        reason: Exception
        try:
            return None if self.find(name, partition) is None else self.load_as(kind, name, partition)
        except DAMAGE as error:
            reason = error
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - a type refuses parts that it does not understand in its own words
            reason = error
        logger.warning("%s is not built upon: %s", _shown(name, partition), reason)
        return None

    def published(self) -> list[Published]:
        """Everything that is published, in order of name and partition; a damaged pointer is logged and left out."""
        keys = [entry.key for entry in self.store.entries(POINTERS)]
        found = (self._read_pointer_if_whole(key) for key in keys)
        return sorted((each for each in found if each is not None), key=lambda each: (each.name, each.partition or ""))

    def damaged(self, published: Iterable[Published]) -> dict[tuple[str, str | None], str]:
        """Why the pointers cannot be read that `published` has left out, by name and partition; only they are read."""
        whole = {pointer_key(each.name, each.partition) for each in published}
        reasons = {}
        for key in sorted({entry.key for entry in self.store.entries(POINTERS)} - whole):
            try:
                self._read_pointer(key)
            except DAMAGE as error:
                reasons[named_by(key)] = str(error)
        return reasons

    def withdraw(self, name: str, partition: str | None) -> bool:
        """Remove a value with its blocks in one durable batch.

        Returns:
            Whether there was one.
        """
        pointer = pointer_key(name, partition)
        with self._publishing(name, partition):
            there = self.store.contains(pointer)
            blocks = [entry.key for entry in self.store.entries(blocks_prefix(name, partition))]
            self.store.write({}, [pointer, *blocks])
        return there

    def sweep(self) -> int:
        """Remove blocks that no pointer names, which publishers left that were killed.

        Each value is swept while its publishing lock is held, so what no pointer names then belongs to nobody. A value
        that is being published, or whose pointer is damaged, is left out: its next publisher removes such blocks.

        Returns:
            The number of blocks removed.
        """
        places = {tuple(entry.key.split("/")[1:3]) for entry in self.store.entries(VALUES)}
        return sum(self._sweep_value("/".join(place)) for place in sorted(places))

    def _sweep_value(self, place: str) -> int:
        try:
            with self._locked(place, 0):
                current = self._read_pointer(f"{POINTERS}{place}")
                named = set(current.keys) if current is not None else set()
                orphans = [e.key for e in self.store.entries(f"{VALUES}{place}/") if e.key not in named]
                self.store.write({}, orphans)
                return len(orphans)
        except (Timeout, *DAMAGE):
            return 0

    @contextmanager
    def _publishing(self, name: str, partition: str | None) -> Iterator[None]:
        try:
            with self._locked(place_of(name, partition), LOCK_SECONDS):
                yield
        except Timeout as error:
            raise PublisherBusyError(
                f"{_shown(name, partition)} is being published by another process for over {LOCK_SECONDS:.0f} s; wait"
                f" for it or end it (it holds {error.lock_file})"
            ) from error

    def _locked(self, place: str, seconds: float) -> FileLock:
        stripe = xxhash.xxh3_64_intdigest(place.encode()) % LOCKS
        return FileLock(self._locks / f"{stripe:02d}.lock", timeout=seconds)

    def _write_blocks(self, blocks: Mapping[str, Part]) -> None:
        batch: dict[str, Part] = {}
        size = 0
        for key, block in blocks.items():
            batch[key] = block
            size += rough_bytes(block)
            if size >= WRITE_BYTES:
                self.store.write(batch)
                batch, size = {}, 0
        self.store.write(batch)

    def _verify(self, keys: tuple[str, ...]) -> None:
        """Read every block back; a timed get is the read that bypasses faster tiers and stays out of the access log."""
        self.store.time_gets(keys, Tier.L3)

    def _readable(self, keys: tuple[str, ...]) -> bool:
        try:
            self._verify(keys)
        except (CorruptObjectError, ObjectNotFoundError):
            return False
        return True

    def _read_pointer(self, key: str) -> Published | None:
        try:
            raw = self.store.get(key)
        except ObjectNotFoundError:
            return None
        try:
            fields = json.loads(cast("bytes", raw))
            parts = tuple(PublishedPart(part["name"], tuple(part["keys"])) for part in fields.pop("parts"))
            return Published(parts=parts, **fields)
        except (TypeError, ValueError, KeyError) as error:
            raise DamagedValueError(
                f"the pointer {key!r} cannot be read ({error}): delete it and publish the value again"
            ) from error

    def _read_pointer_if_whole(self, key: str) -> Published | None:
        try:
            return self._read_pointer(key)
        except DAMAGE as error:
            logger.warning("%s", error)
            return None

    def _load(
        self, name: str, partition: str | None, type_of: Callable[[Published], type[StoredValue]]
    ) -> tuple[StoredValue, Published]:
        published = self._required(name, partition)
        while True:
            kind = type_of(published)
            try:
                objects = self.store.get_many(published.keys)
            except ObjectNotFoundError as error:
                current = self._required(name, partition)
                if current == published:
                    raise DamagedValueError(
                        f"{_shown(name, partition)} lacks the block {error.key!r}: publish the value again"
                    ) from error
                published = current
                continue
            parts = {part.name: join([objects[key] for key in part.keys]) for part in published.parts}
            try:
                return kind.from_parts(parts), published
            except (ValueError, TypeError, KeyError) as error:
                raise ValueSchemaError(
                    f"{_shown(name, partition)} was written in a form that cannot be read ({error}): materialize it"
                    " again"
                ) from error

    def _required(self, name: str, partition: str | None) -> Published:
        published = self.find(name, partition)
        if published is not None:
            return published
        everything = self.published()
        partitions = {str(other.partition) for other in everything if other.name == name}
        if partitions:
            there = f"its published partitions are {_listed(partitions)}"
        else:
            there = f"published are {_listed({other.name for other in everything})}"
        raise ValueNotPublishedError(
            f"{_shown(name, partition)} is not published; {there}. Materialize the asset {name!r} first"
        )


def _shown(name: str, partition: str | None) -> str:
    return f"value {name!r}" if partition is None else f"value {name!r}, partition {partition!r},"


def _listed(names: set[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(sorted(names)[:most]) + more or "none"


def _type_name(kind: type) -> str:
    if "<locals>" in kind.__qualname__:
        raise ValueTypeError(f"{kind.__module__}:{kind.__qualname__} is local to a function: move it to a module")
    return f"{kind.__module__}:{kind.__qualname__}"


def _named_parts(value: StoredValue, type_name: str) -> Mapping[str, Part]:
    parts = value.to_parts()
    wrong = [part for part in parts if not PART_NAME.fullmatch(part)]
    if wrong:
        raise ValueTypeError(f"{type_name} names its parts {wrong}: a part's name is made of a-z, 0-9 and -")
    return parts


def _imported_type(published: Published) -> type[StoredValue]:
    """Import the type that a pointer names; only types of this package, so that no pointer can run foreign code."""
    module_name, _, qualname = published.type_name.partition(":")
    shown = f"{_shown(published.name, published.partition)} is a {published.type_name}"
    if not module_name.startswith("aura."):
        raise ValueTypeError(f"{shown}, which is not of the package aura: load it with `load_as` and its type")
    try:
        found: object = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ValueTypeError(f"{shown}, which cannot be imported ({error}): publish the value again") from error
    for attribute in qualname.split("."):
        found = getattr(found, attribute, None)
    if not isinstance(found, type) or not callable(getattr(found, "from_parts", None)):
        raise ValueTypeError(f"{shown}, which has no from_parts: publish the value again")
    return cast("type[StoredValue]", found)
