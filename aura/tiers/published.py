"""What the catalog says of a value: its record, a draft of one, and the errors.

Belongs here: plain records. Does not: reading or writing them (`catalog.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aura.tiers.errors import CorruptObjectError
from aura.tiers.values import Part


class CatalogError(Exception):
    """Base of every error of the catalog; the message names the value and the remedy."""


class ValueNotPublishedError(CatalogError, LookupError):
    """Nothing is published under this name and partition."""


class ValueTypeError(CatalogError, TypeError):
    """The value's type cannot be published, or cannot be loaded as what was asked for."""


class DamagedValueError(CatalogError):
    """The pointer or the blocks that it names cannot be read."""


class PublisherBusyError(CatalogError, TimeoutError):
    """Another publisher of the same value did not finish in time."""


DAMAGE = (DamagedValueError, CorruptObjectError)
"""What a published value raises that cannot be read; publishing it again repairs it."""


@dataclass(frozen=True, slots=True)
class PublishedPart:
    """One part of a published value.

    Attributes:
        name: Name of the part, as `to_parts` gave it.
        keys: Keys of its blocks in the store, in order.
    """

    name: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Published:
    """What is published under a name and a partition.

    Attributes:
        name: Name of the value.
        partition: Its partition; None for a value without partitions.
        type_name: Its type as "module:qualname".
        version: Digest of its content, 32 hexadecimal digits: equal content, equal version.
        provenance: What it was made from and with, as the publisher said.
        rows: Rows of its tables, all parts together.
        bytes: Encoded bytes of all blocks.
        created_at: When it was published, ISO 8601 in UTC.
        parts: Its parts with the keys of their blocks.
    """

    name: str
    partition: str | None
    type_name: str
    version: str
    provenance: Mapping[str, str]
    rows: int
    bytes: int
    created_at: str
    parts: tuple[PublishedPart, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all blocks in the store."""
        return tuple(key for part in self.parts for key in part.keys)


@dataclass(frozen=True, eq=False, slots=True)
class Draft:
    """A value that is ready to be published: cut into blocks, with its version known.

    Attributes:
        type_name: Its type as "module:qualname".
        version: Digest of its content, which `Published.version` will be.
        rows: Rows of its tables, all parts together.
        bytes: Encoded bytes of all blocks.
        parts: The blocks of each part, in order of the parts' names.
    """

    type_name: str
    version: str
    rows: int
    bytes: int
    parts: Mapping[str, Sequence[Part]]
