"""The look of figures: readable in light and in dark, and in order for those who hear it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from aura.overview import markup
from aura.overview.stored import TierFigures
from aura.tiers.records import Tier, TierState

STYLE = markup.STYLE.read_text()
THEME = tomllib.loads((Path(__file__).parents[2] / ".streamlit" / "config.toml").read_text())["theme"]
GROUNDS = [
    *((THEME[name]["textColor"], THEME[name]["backgroundColor"]) for name in ("light", "dark")),
    *((THEME[name]["textColor"], THEME[name]["secondaryBackgroundColor"]) for name in ("light", "dark")),
    # What browsers paint the report with.
    ("#000000", "#ffffff"),
    ("#ffffff", "#121212"),
]
LEAST = 4.5
"""Contrast of text to its ground, WCAG 2.2, success criterion 1.4.3."""


def channels(colour):
    return [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]


def mixed(over, share, under):
    return [share * a + (1 - share) * b for a, b in zip(over, under, strict=True)]


def luminance(colour):
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in colour]
    return sum(weight * each for weight, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_the_norm():
    assert contrast(channels("#000000"), channels("#ffffff")) == pytest.approx(21)
    assert contrast(channels("#767676"), channels("#ffffff")) == pytest.approx(4.54, abs=0.01)


def test_whatever_is_muted_is_equally_so_and_no_box_is():
    rules = re.findall(r"([^{}]+)\{([^{}]*)\}", STYLE)
    faded = {
        selector.strip(): value
        for selector, body in rules
        for value in re.findall(r"opacity: ([^;]+);", body)
        if value != "1" and 'content: ""' not in body
    }
    assert set(faded.values()) == {"var(--au-muted)"}
    assert not faded.keys() & {".au-table", ".au-table td", ".au-card", ".au-tile", ".au-remedy", ".au-remedy p"}


@pytest.mark.parametrize(("text", "ground"), GROUNDS)
def test_muted_text_is_readable_also_as_code(text, ground):
    (muted,) = (float(found) for found in re.findall(r"--au-muted: ([.\d]+);", STYLE))
    (tint,) = (float(found) / 100 for found in re.findall(r"code \{.*currentColor (\d+)%", STYLE))
    text, ground = channels(text), channels(ground)
    assert contrast(mixed(text, muted, ground), ground) >= LEAST
    behind = mixed(text, tint, ground)
    assert contrast(mixed(text, muted, ground), mixed(behind, muted, ground)) >= LEAST


def test_alarms_are_readable():
    light, dark = re.findall(r"light-dark\((#\w+), (#\w+)\)", STYLE)[0]
    for alarm, theme in ((light, "light"), (dark, "dark")):
        for ground in ("backgroundColor", "secondaryBackgroundColor"):
            assert contrast(channels(alarm), channels(THEME[theme][ground])) >= LEAST


def test_headings_stand_one_level_below_a_section():
    state = TierState(Tier.L3, capacity_bytes=None, used_bytes=1, objects=1, gets=1, get_seconds=None)
    parts = (
        markup.heading("notes"),
        markup.heading(None),
        markup.tier_cards([TierFigures(state, 0, None, 0.0)]),
        markup.verdict("about", "headline", "sentence", ""),
    )
    assert [re.findall(r"</?h(\d)", part) for part in parts] == [["3", "3"]] * 4
    assert re.findall(r"</?h(\d)", markup.title("x")) == ["1", "1"]


def test_commands_in_a_note_are_code_and_nothing_in_it_is_markup():
    assert markup.note("run `make <x>` & wait") == ('<p class="au-note">run <code>make &lt;x&gt;</code> &amp; wait</p>')


def test_the_columns_of_what_was_found_have_the_widths_of_the_style():
    heads = re.findall(r'<th class="([\w-]+)">', markup.hits([], []))
    assert heads == ["au-c-cosine", "au-c-preview", "au-c-label", "au-c-item"]
    widths = re.findall(r"\.au-hits \.(au-c-[\w-]+) \{ width", STYLE)
    assert widths
    assert set(widths) <= set(heads)
