"""What can go wrong with the store, each error with the thing, the cause and the remedy.

Belongs here: the exception types of `aura.tiers`, in a form that travels between an owner and its clients.
Does not: deciding when to raise them.
"""

from __future__ import annotations


class StoreError(Exception):
    """Base of every error of the store.

    Attributes:
        what: The sentence that says what failed, without a final full stop.
        key: The object it concerns, or "" when it concerns the store as a whole.
        path: The file or directory it concerns, or "".
        cause: What the system or the database said, or "".
        remedy: What the reader can do about it, or "".
    """

    def __init__(self, what: str, *, key: str = "", path: str = "", cause: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.key = key
        self.path = path
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        text = self.what
        if self.path and self.path not in text:
            text += f" ({self.path})"
        if self.cause:
            text += f": {self.cause.rstrip('.')}"
        return f"{text}. {self.remedy}" if self.remedy else text


class ObjectNotFoundError(StoreError, KeyError):
    """No object has this key. Also a KeyError."""

    __str__ = StoreError.__str__


class CorruptObjectError(StoreError):
    """The stored bytes of one object do not match their checksum; the object was not returned."""


class InvalidPartError(StoreError, ValueError):
    """The key or the value cannot be stored: wrong type, dtype or size."""


class CapacityError(StoreError):
    """A tier is too small for what was asked of it."""


class TierAbsentError(StoreError):
    """This store has no such tier on this machine."""


class CorruptStoreError(StoreError):
    """The database of the store as a whole cannot be read."""


class StorageError(StoreError):
    """The operating system refused: disk full, permission denied, directory missing."""


class StoreUnavailableError(StoreError):
    """Neither could the owner of the store be reached nor could this process become the owner."""


class StoreClosedError(StoreError):
    """The store was closed, or inherited through a fork, and cannot be used any more."""


WIRE_ERRORS: dict[str, type[StoreError]] = {
    kind.__name__: kind
    for kind in (
        StoreError,
        ObjectNotFoundError,
        CorruptObjectError,
        InvalidPartError,
        CapacityError,
        TierAbsentError,
        CorruptStoreError,
        StorageError,
    )
}
"""Errors that an owner sends to its clients by name. An owner that is gone or closed is seen as a lost connection."""
