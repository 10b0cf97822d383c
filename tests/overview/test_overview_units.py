"""Figures keep their size, whatever their magnitude."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aura.overview import units

FACTORS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50}
MAGNITUDES = st.builds(
    lambda digits, exponent, sign: sign * digits * 10.0**exponent,
    st.floats(1, 10, exclude_max=True),
    st.integers(-12, 15),
    st.sampled_from([-1, 1]),
)


@given(MAGNITUDES)
def test_three_digits_tell_a_figure_to_half_a_percent_without_an_exponent(value):
    shown = units.significant(value)
    assert re.fullmatch(r"-?\d{1,3}(,\d{3})*(\.\d+)?", shown)
    assert float(shown.replace(",", "")) == pytest.approx(value, rel=5.001e-3)
    if abs(value) < 100:
        assert len(re.sub(r"[-.]", "", shown).lstrip("0")) == 3


@given(st.integers(0, 2**62))
def test_bytes_are_shown_in_the_largest_unit_that_leaves_a_whole_one(count):
    number, unit = units.size(count).split()
    shown = float(number.replace(",", ""))
    assert shown * FACTORS[unit] == pytest.approx(count, rel=5.001e-3)
    assert shown < 1024 or unit == "PiB"
    assert shown >= 1 or unit == "B"


@given(st.integers(0, 2**62), st.integers(0, 2**62))
def test_more_bytes_never_look_like_fewer(one, other):
    def shown(count):
        number, unit = units.size(count).split()
        return float(number.replace(",", "")) * FACTORS[unit]

    assert shown(min(one, other)) <= shown(max(one, other))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"), (0.00321, "0.00321"), (4e-7, "0.000000400"), (0.5, "0.500"), (9.996, "10.0"), (99.96, "100"),
        (999.6, "1,000"), (1234.5, "1,234"), (float("nan"), "nan"), (float("-inf"), "-inf"),
    ],
)  # fmt: skip
def test_figures_at_the_edges(value, shown):
    assert units.significant(value) == shown
