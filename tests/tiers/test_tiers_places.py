"""Keys of pointers name their values, whatever these are called."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aura.tiers.places import named_by, pointer_key

NAMES = st.text(min_size=1)


@given(name=NAMES, partition=st.none() | NAMES)
@example(name="-", partition="-")
@example(name="a/b", partition=None)
@example(name="%2D", partition="\ud800")
def test_a_pointer_names_its_value(name, partition):
    assert named_by(pointer_key(name, partition)) == (name, partition)


def test_nothing_is_no_name():
    with pytest.raises(ValueError, match="neither may be empty"):
        pointer_key("", None)
