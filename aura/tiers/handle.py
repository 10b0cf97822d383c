"""A typed handle of one object: its type is checked once here, and known to the type checker everywhere else.

Belongs here: the handle. Does not: the store.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from aura.tiers.errors import InvalidPartError
from aura.tiers.records import Entry, Tier
from aura.tiers.store import TieredStore
from aura.tiers.values import Part

PartT = TypeVar("PartT", bound=Part)


@dataclass(frozen=True, slots=True)
class Handle(Generic[PartT]):
    """The object under a key, as a part of one kind.

    Attributes:
        store: Where it is; stays the caller's to close.
        key: Its name.
        kind: What it has to be: `bytes`, `pa.Table`, or `Mapping` for named arrays.
    """

    store: TieredStore
    key: str
    kind: type

    def get(self) -> PartT:
        """Read it; errors as `TieredStore.get`.

        Raises:
            InvalidPartError: What is there is of another kind.
        """
        part = self.store.get(self.key)
        if not isinstance(part, self.kind):
            raise InvalidPartError(
                f"The object {self.key!r} is a {type(part).__name__}, not a {self.kind.__name__}",
                key=self.key,
                remedy="Ask for the kind that was written, or write it again.",
            )
        return cast("PartT", part)

    def put(self, part: PartT) -> None:
        """Write it, durable when this returns."""
        self.store.put(self.key, part)

    def delete(self) -> None:
        """Remove it; no error when there is none."""
        self.store.delete(self.key)

    def exists(self) -> bool:
        """Whether there is one. Not an access."""
        return self.store.contains(self.key)

    def entry(self) -> Entry | None:
        """What the store knows of it; None when there is none."""
        return next((entry for entry in self.store.entries(self.key) if entry.key == self.key), None)

    @contextmanager
    def pinned(self, tier: Tier = Tier.L1) -> Iterator[PartT]:
        """Keep it in a tier for the length of a block, whose value is the object; errors as `TieredStore.pin`."""
        self.store.pin(self.key, tier)
        try:
            yield self.get()
        finally:
            self.store.unpin(self.key)
