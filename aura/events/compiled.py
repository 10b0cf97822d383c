"""A JSON Schema compiled into closures that quickly say whether a value certainly fits.

The full validator costs tens of microseconds per event; the closures cost one or two. They are sound, not complete: a
value that they accept fits the schema; one that they do not accept is left to the full validator, which has the last
word. Does not belong here: which schema is meant, or what is said about a value that does not fit (`schemas`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any], bool]

ANNOTATIONS = frozenset({"$schema", "$id", "$comment", "title", "description", "examples", "default"})
TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def compile_check(schema: Mapping[str, Any]) -> Check:
    """Compile a schema.

    Raises:
        ValueError: A keyword is not one of those known here; ignoring it would accept what it forbids.
    """
    rest = {name: value for name, value in schema.items() if name not in ANNOTATIONS}
    kinds = rest.pop("type", None)
    checks = _applicable(rest)
    if rest:
        raise ValueError(f"the keywords {sorted(rest)} cannot be compiled; use simpler ones or teach compile_check")
    if kinds is None:
        return _all(checks)
    accepted = frozenset(cls for kind in ([kinds] if isinstance(kinds, str) else kinds) for cls in TYPES[kind])
    if not checks:
        return lambda value: type(value) in accepted
    if len(checks) == 1:
        (only,) = checks
        return lambda value: type(value) in accepted and only(value)
    every = _all(checks)
    return lambda value: type(value) in accepted and every(value)


def _all(checks: list[Check]) -> Check:
    def check(value: Any) -> bool:  # noqa: ANN401  a JSON value
        for each in checks:  # noqa: SIM110  a generator would double the cost
            if not each(value):
                return False
        return True

    return check


def _applicable(rest: dict[str, Any]) -> list[Check]:
    """Take the known keywords out of `rest`. A keyword for another type than the value's does not apply to it."""
    checks: list[Check] = []
    if "enum" in rest or "const" in rest:
        values = rest.pop("enum", None) or [rest.pop("const")]
        if not all(type(value) is str for value in values):
            raise ValueError(f"enum and const are compiled for strings only, not {values}")
        checks.append(_one_of(frozenset(values)))
    if {"minimum", "maximum"} & rest.keys():
        low, high = rest.pop("minimum", float("-inf")), rest.pop("maximum", float("inf"))
        checks.append(lambda value: not isinstance(value, (int, float)) or low <= value <= high)
    if {"minLength", "maxLength"} & rest.keys():
        checks.append(_sizes(str, rest.pop("minLength", 0), rest.pop("maxLength", float("inf"))))
    if {"minItems", "maxItems"} & rest.keys():
        checks.append(_sizes(list, rest.pop("minItems", 0), rest.pop("maxItems", float("inf"))))
    if "pattern" in rest:
        search = re.compile(rest.pop("pattern")).search
        checks.append(lambda value: type(value) is not str or search(value) is not None)
    if "items" in rest:
        checks.append(_items(rest.pop("items")))
    if {"properties", "required", "additionalProperties"} & rest.keys():
        checks.append(
            _object(rest.pop("properties", {}), rest.pop("required", ()), rest.pop("additionalProperties", True))
        )
    return checks


def _one_of(known: frozenset[str]) -> Check:
    return lambda value: type(value) is str and value in known


def _sizes(kind: type[str | list[Any]], low: float, high: float) -> Check:
    return lambda value: not isinstance(value, kind) or low <= len(value) <= high


def _items(schema: Mapping[str, Any]) -> Check:
    each = compile_check(schema)
    if set(schema) - ANNOTATIONS == {"type"} and schema["type"] == "string":
        strings = {str}
        return lambda value: type(value) is not list or set(map(type, value)) <= strings
    return lambda value: type(value) is not list or all(map(each, value))


def _object(properties: Mapping[str, Any], required: list[str], additional: bool | Mapping[str, Any]) -> Check:  # noqa: FBT001  JSON Schema's value
    known = {name: compile_check(schema) for name, schema in properties.items()}
    needed = frozenset(required)
    other: Check = (lambda _: bool(additional)) if isinstance(additional, bool) else compile_check(additional)

    def check(value: Any) -> bool:  # noqa: ANN401  a JSON value
        if type(value) is not dict:
            return not isinstance(value, dict)
        if not needed <= value.keys():
            return False
        for name, each in value.items():  # noqa: SIM110  a generator would double the cost
            if not known.get(name, other)(each):
                return False
        return True

    return check
