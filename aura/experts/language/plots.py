"""Learning curves of language models with experts and of their dense twins, as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from aura.experts.language.card import CurvePoint, LanguageCard
from aura.experts.language.comparison import MoeVersusDense

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOE_COLOUR = "#0f766e"
DENSE_COLOUR = "#64748b"
LONGER_COLOUR = "#b45309"
DPI = 90
_FIRST_SHOWN = 0.1
"""Part of a training that is left out at the left, where the curves fall out of the picture."""


def plot_curves(cards: Sequence[LanguageCard]) -> bytes:
    """Held-out bits per byte against steps, and against time; one thin line per seed and training."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.8), dpi=DPI, layout="constrained")
    by_step, by_time = figure.subplots(1, 2, sharey=True)
    for number, card in enumerate(cards):
        curves = (
            (card.dense_longer.points, LONGER_COLOUR, "dense, equal time"),
            (card.dense.points, DENSE_COLOUR, "dense twin"),
            (card.moe.points, MOE_COLOUR, "with experts"),
        )
        for points, colour, label in curves:
            _draw(by_step, by_time, points, colour, label if number == 0 else None)
    config, clock = cards[0].config, cards[0].clock
    shown = [
        point.held_out.mean
        for card in cards
        for curve in (card.moe, card.dense, card.dense_longer)
        for point in curve.points
        if point.step >= _FIRST_SHOWN * curve.steps
    ]
    margin = 0.05 * (max(shown) - min(shown)) or 0.1
    by_step.set_ylim(min(shown) - margin, max(shown) + margin)
    by_step.set_ylabel("held-out bits per byte, mean of domains")
    by_step.set_xlabel(f"steps of {config.batch * config.sequence:,} tokens")
    by_time.set_xlabel(f"{'CPU' if clock == 'cpu' else 'wall'} seconds of training")
    by_step.legend(frameon=False, fontsize=8)
    for axes in (by_step, by_time):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(visible=True, linewidth=0.4, alpha=0.5)
    title = (
        f"{config.experts} experts, {config.experts_per_token} for each token, width {config.width}, "
        f"{config.layers} layers, {len(cards)} seed{'s' if len(cards) > 1 else ''}"
    )
    figure.suptitle(f"{_warning(cards[0])}{title}", fontsize=9)
    return _png(figure)


def plot_differences(comparison: MoeVersusDense) -> bytes:
    """The differences to the dense twin with their intervals: at equal steps, at equal time, and by domain."""
    from matplotlib.figure import Figure

    rows = {"equal steps": comparison.equal_steps, "equal time": comparison.equal_time}
    rows |= {f"{name}, equal steps": interval for name, interval in comparison.domains.items()}
    figure = Figure(figsize=(6.4, 0.8 + 0.34 * len(rows)), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    for place, interval in enumerate(rows.values()):
        colour = MOE_COLOUR if place < 2 else DENSE_COLOUR
        if interval.n > 1:
            axes.plot([100 * interval.low, 100 * interval.high], [place, place], color=colour, linewidth=2)
        axes.plot([100 * interval.mean], [place], "o", color=colour)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set_xlabel(f"bits per byte against the dense twin, %, 95 % intervals over {len(comparison.cards)} seeds")
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(_warning(comparison.cards[0]), fontsize=9)
    return _png(figure)


def _warning(card: LanguageCard) -> str:
    """What a picture of a training that proves nothing has to say first."""
    if card.proves_nothing is None:
        return ""
    return f"PROVES NOTHING: {card.config.tokens:,} tokens in {card.passes:.1f} passes over the text. "


def _draw(by_step: Axes, by_time: Axes, points: Sequence[CurvePoint], colour: str, label: str | None) -> None:
    level = [point.held_out.mean for point in points]
    by_step.plot([point.step for point in points], level, color=colour, linewidth=1.1, label=label)
    by_time.plot([point.seconds for point in points], level, color=colour, linewidth=1.1)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
