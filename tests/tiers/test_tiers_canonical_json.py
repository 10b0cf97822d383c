"""Data classes there and back: equal values are equal bytes, and what is wrong is named."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aura.tiers.canonical_json import canonical_json, parsed


@dataclass(frozen=True)
class Inner:
    """What a note holds."""

    size: int


@dataclass(frozen=True)
class Note:
    """Something plain."""

    name: str
    shares: Mapping[str, float]
    inner: tuple[Inner, ...]


NOTES = st.builds(
    Note,
    st.text(),
    st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False)),
    st.lists(st.builds(Inner, st.integers(-(2**60), 2**60)), max_size=3).map(tuple),
)


@given(NOTES)
def test_a_note_comes_back_and_its_bytes_do_not_depend_on_the_order_of_a_mapping(note):
    text = canonical_json(note)
    assert parsed(Note, text) == note
    turned = Note(note.name, dict(reversed(note.shares.items())), note.inner)
    assert canonical_json(turned) == text


def test_the_bytes_are_those_of_the_standard_form():
    note = Note("naïve", {"b": 0.5, "a": 1.0}, (Inner(2),))
    assert canonical_json(note) == '{"inner":[{"size":2}],"name":"naïve","shares":{"a":1.0,"b":0.5}}'.encode()


def test_what_is_wrong_is_counted_and_the_first_is_named():
    with pytest.raises(ValueError, match=r"^2 fields are wrong, the first is shares: Field required$"):
        parsed(Note, b'{"name": "", "inner": [{"size": "large"}]}')
    with pytest.raises(ValueError, match=r"the first is inner\.0\.size: "):
        parsed(Note, b'{"name": "", "shares": {}, "inner": [{"size": "large"}]}')
    with pytest.raises(ValueError, match="the first is the whole: Invalid JSON"):
        parsed(Note, b"")


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_number_that_is_not_finite_is_refused(number):
    with pytest.raises(ValueError, match=r"not JSON compliant|Out of range"):
        canonical_json(Note("", {"a": number}, ()))
