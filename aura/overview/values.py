"""Published values for people to look at: each version is read and drawn once.

Belongs here: loading through a client of the store, keeping what was read last, its pictures. Does not: which pictures
there are (`pictures`), drawing pages.

Reading a value is an access that the store logs, like any other, once for each version; lists are none.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from aura.overview.pictures import PICTURES
from aura.tiers.catalog import Catalog
from aura.tiers.published import CatalogError, Published
from aura.tiers.store import TieredStore
from aura.tiers.values import StoredValue

Value_co = TypeVar("Value_co", covariant=True)

KEPT_BYTES = 256 << 20
"""Encoded bytes of the values that stay in memory, all together; the one that was asked for last stays at any size."""

logger = logging.getLogger(__name__)


class PictureError(CatalogError):
    """Pictures of a value cannot be drawn; the message has the reason of each, and the remedy."""


@dataclass(frozen=True)
class Shown(Generic[Value_co]):
    """A value with what it was published as, and the pictures that were drawn of it so far.

    Attributes:
        value: The value.
        published: Its pointer: version, provenance, time.
    """

    value: Value_co
    published: Published
    _drawn: dict[str, bytes] = field(default_factory=dict)
    _failed: dict[str, str] = field(default_factory=dict)

    def pictures(self) -> list[tuple[str, bytes]]:
        """Title and PNG bytes of each picture; each is tried once, at the first call.

        Raises:
            PictureError: One or more cannot be drawn; the others are in `drawn`.
        """
        name = self.published.name
        for picture in PICTURES.get(name, ()):
            if picture.title in self._drawn or picture.title in self._failed:
                continue
            try:
                if picture.wanted(self.value):
                    self._drawn[picture.title] = picture.draw(self.value)
            except Exception as error:  # A value can be damaged in any way; that costs its picture alone.
                logger.warning("%s of %s cannot be drawn", picture.title, name, exc_info=True)
                self._failed[picture.title] = f"{type(error).__name__}: {error}"
        if self._failed:
            reasons = "; ".join(f'"{title}" ({reason})' for title, reason in self._failed.items())
            raise PictureError(
                f"{name}, a {self.published.type_name}, cannot be drawn: {reasons}. Materialize it again; the log has "
                "the traceback."
            )
        return self.drawn

    @property
    def drawn(self) -> list[tuple[str, bytes]]:
        """Title and PNG bytes of each picture that `pictures` could draw."""
        return list(self._drawn.items())


class ValueView:
    """Looks at values of one store. Thread-safe."""

    def __init__(
        self,
        open_store: Callable[[], TieredStore],
        published: Callable[[], Iterable[Published]],
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        """Nothing is opened yet.

        Args:
            open_store: Gives the store, as a client that stays open.
            published: Says what is published now.
            kept_bytes: Encoded bytes of the values that stay in memory; the one that was asked for last always does.
        """
        self._open_store = open_store
        self._published = published
        self._kept_bytes = kept_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str | None], Shown[StoredValue]] = OrderedDict()

    def get(self, name: str, partition: str | None) -> Shown[StoredValue] | None:
        """A value as it is published now; None where nothing is.

        Raises:
            StoreError: The store has no owner that answers.
            CatalogError: The value is damaged, or of a form that this version of the code does not know.
        """
        versions = {(each.name, each.partition): each.version for each in self._published()}
        key = (name, partition)
        with self._lock:
            for old in [old for old, kept in self._kept.items() if kept.published.version != versions.get(old)]:
                del self._kept[old]
            shown = self._kept.get(key)
        if key not in versions:
            return None
        if shown is None:
            shown = Shown(*Catalog(self._open_store()).load_published(name, partition))
        with self._lock:
            self._kept[key] = shown
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and self._held_bytes() > self._kept_bytes:
                self._kept.popitem(last=False)
        return shown

    def _held_bytes(self) -> int:
        return sum(kept.published.bytes for kept in self._kept.values())
