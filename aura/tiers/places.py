"""Where a published value is in the store: the keys of its pointer and of its blocks; and where other objects are.

Belongs here: names and partitions as key segments, prefixes. Does not: reading or writing them (`catalog.py`).
"""

from __future__ import annotations

from urllib.parse import quote, unquote

VALUES = "values/"
POINTERS = "pointers/"
EXPERTS = "experts/"
"""Weights of experts (`aura.experts.offload.store`), which are objects of their own and no published values."""
PLACED = (VALUES, EXPERTS)
"""What the keys of all objects start with that a placement moves."""


def place_of(name: str, partition: str | None) -> str:
    """Name and partition as two segments of a key: "-" is no partition, other text is percent-encoded (RFC 3986).

    Raises:
        ValueError: The name or the partition is empty.
    """
    if not name or partition == "":
        raise ValueError(f"name is {name!r} and partition {partition!r}: neither may be empty; None is no partition")
    segment = "-" if partition is None else "%2D" if partition == "-" else _quoted(partition)
    return f"{_quoted(name)}/{segment}"


def pointer_key(name: str, partition: str | None) -> str:
    """Key of the pointer to the current version."""
    return f"{POINTERS}{place_of(name, partition)}"


def blocks_prefix(name: str, partition: str | None) -> str:
    """What the keys of all blocks of all versions start with."""
    return f"{VALUES}{place_of(name, partition)}/"


def named_by(pointer: str) -> tuple[str, str | None]:
    """Name and partition of a value from the key of its pointer: the inverse of `pointer_key`."""
    name, segment = pointer.removeprefix(POINTERS).split("/")
    return _unquoted(name), None if segment == "-" else _unquoted(segment)


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="surrogatepass")


def _unquoted(text: str) -> str:
    return unquote(text, errors="surrogatepass")
