"""The settings as a person wants to see them.

Belongs here: one row per setting. Does not: reading or judging them (`aura.settings`).
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any, Literal

from pydantic import ByteSize
from pydantic_settings import TomlConfigSettingsSource

from aura.settings import Settings, config_file, fields_of, is_in, variable_of


@dataclass(frozen=True)
class SettingRow:
    """One setting; secrets are masked."""

    name: str
    value: str
    origin: Literal["default", "file", "environment"]
    description: str


def describe(settings: Settings) -> list[SettingRow]:
    """List every setting with its value, where the value came from, and what it means."""
    in_file: Mapping[str, Any] = TomlConfigSettingsSource(Settings, toml_file=config_file())()
    rows = []
    for name, description in fields_of(Settings):
        origin: Literal["default", "file", "environment"] = "default"
        if variable_of(name) in os.environ:
            origin = "environment"
        elif is_in(in_file, name):
            origin = "file"
        value = operator.attrgetter(name)(settings)
        shown = value.human_readable() if isinstance(value, ByteSize) else "" if value is None else str(value)
        rows.append(SettingRow(name=name, value=shown, origin=origin, description=description))
    return rows


def as_objects(settings: Settings) -> Iterator[dict[str, Any]]:
    """The rows for a program: values as JSON has them, sizes in bytes, null where there is none; secrets are masked."""
    values = settings.model_dump(mode="json")
    for row in describe(settings):
        value = reduce(operator.getitem, row.name.split("."), values)
        yield asdict(row) | {"value": value}
