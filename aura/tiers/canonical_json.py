"""Data classes of plain values as canonical JSON: sorted keys and no spaces, so that equal values are equal bytes.

Belongs here: the way there and back, for parts of stored values that people can read. Does not: tensors and tables.
"""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

Kind = TypeVar("Kind")


def canonical_json(value: object) -> bytes:
    """The JSON of a data class in UTF-8; raises ValueError for a number that is not finite."""
    plain = TypeAdapter(type(value)).dump_python(value, mode="json")
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def parsed(kind: type[Kind], text: bytes | str) -> Kind:
    """Read a data class back; raises ValueError, which says how many fields are wrong and what is with the first."""
    try:
        value: Kind = TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        raise ValueError(f"{error.error_count()} fields are wrong, the first is {place}: {first['msg']}") from error
    return value
