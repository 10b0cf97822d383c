"""The result of a check of meaning: passed or not, with the figures that decided it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class CheckResult:
    """What a check found.

    Attributes:
        passed: Whether the value may be used.
        figures: The figures that decided, by name; finite floats.
        description: One sentence for a person: what was expected and what was found.
    """

    passed: bool
    figures: Mapping[str, float]
    description: str
