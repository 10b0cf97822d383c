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

KEPT = 24
"""Values that stay in memory."""

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

    def __init__(self, open_store: Callable[[], TieredStore], published: Callable[[], Iterable[Published]]) -> None:
        """Nothing is opened yet.

        Args:
            open_store: Gives the store, as a client that stays open.
            published: Says what is published now.
        """
        self._open_store = open_store
        self._published = published
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str | None], Shown[StoredValue]] = OrderedDict()

    def get(self, name: str, partition: str | None) -> Shown[StoredValue] | None:
        """A value as it is published now; None where nothing is.

        Raises:
            StoreError: The store has no owner that answers.
            CatalogError: The value is damaged, or of a form that this version of the code does not know.
        """
        found = (each for each in self._published() if (each.name, each.partition) == (name, partition))
        published = next(found, None)
        if published is None:
            return None
        key = (name, partition)
        with self._lock:
            kept = self._kept.get(key)
        if kept is None or kept.published.version != published.version:
            kept = Shown(*Catalog(self._open_store()).load_published(name, partition))
        with self._lock:
            self._kept[key] = kept
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return kept
