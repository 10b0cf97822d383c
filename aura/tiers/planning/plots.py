"""Plots of the measured tiers, of a placement and of its history, as PNG bytes.

Belongs here: what the profile and the placement look like. Does not: computing any figure.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from aura.tiers.records import Tier

if TYPE_CHECKING:
    from datetime import datetime

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from aura.tiers.planning.placement import TierPlacement
    from aura.tiers.planning.prediction import Replay
    from aura.tiers.planning.profile import TierProfile

ACCENT = "#0b6e99"
GREY = "#b8bec4"
INK = "#30363c"
FAINT = "#e6e9ec"
BOUND = "#c2571a"
SHADES = {Tier.L0: "#5c2a9d", Tier.L1: ACCENT, Tier.L2: "#4d9a76", Tier.L3: "#8a8f98"}
MARKERS = {Tier.L0: "D", Tier.L1: "o", Tier.L2: "s", Tier.L3: "^"}
KIB, MIB = 1 << 10, 1 << 20
NORMAL_95 = 1.96
"""Standard errors on either side of a mean that make its 95 % interval."""


def plot_profile(profile: TierProfile, *, kind: str = "table") -> bytes:
    """Draw latency against size for each tier, both logarithmic.

    Filled markers are means between reads of many other objects with their 95 % intervals, lines what was fitted to
    them, in the band that the 95 % intervals of both coefficients allow; hollow markers are objects that had just been
    read.

    Args:
        profile: The measured costs.
        kind: Kind of the objects that are read, "bytes", "table" or "tensors"; puts are of bytes.

    Returns:
        A PNG with one panel for gets and one for puts.
    """
    figure = _figure(8.8, 3.8)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (operation, what) in zip(panels, (("get", kind), ("put", "bytes")), strict=True):
        _draw_operation(axes, profile, operation, what)
        _decorate(axes, f"{operation} of {what}")
        axes.set_xlabel("object size (KiB)", fontsize=9, color=INK)
        axes.grid(visible=True, which="major", color=FAINT, linewidth=0.7)
    panels[0].set_ylabel("latency (µs)", fontsize=9, color=INK)
    handles, labels = panels[0].get_legend_handles_labels()
    if handles:
        handles.append(
            panels[0].plot([], [], "o", markerfacecolor="none", color=INK, markersize=4, linestyle="none")[0]
        )
        panels[0].legend(handles, [*labels, "just read before"], frameon=False, fontsize=8)
    return _png(figure)


def plot_placement(placement: TierPlacement) -> bytes:
    """Draw what each tier holds before and after against its capacity, the mean latency of a get, and the cost.

    Returns:
        A PNG with three panels: bytes; latencies, measured and predicted, with their 95 % intervals; the predicted cost
        of the horizon before and after, against the lower bound.
    """
    figure = _figure(10.4, 3.3)
    left, middle, right = figure.subplots(1, 3, width_ratios=[3, 2, 2])
    _draw_bytes(left, placement)
    _draw_latencies(middle, placement)
    _draw_costs(right, placement)
    return _png(figure)


def plot_history(placement: TierPlacement) -> bytes:
    """Draw the size of each tier over time, and the cost of an access before and after each placement, with its bound.

    Returns:
        A PNG with two panels over the time of the placements, the latest ones as far as the history goes.
    """
    figure = _figure(9.6, 3.3)
    left, right = figure.subplots(1, 2)
    times = placement.history["at"].to_pylist()
    for tier in Tier:
        held = np.array(
            [np.nan if each is None else each / MIB for each in placement.history[f"{tier}_bytes"].to_pylist()]
        )
        if np.all(np.isnan(held)):
            continue
        style = {"color": SHADES[tier], "marker": MARKERS[tier], "markersize": 4, "linewidth": 1.4}
        left.plot(times, held, drawstyle="steps-post", label=f"{tier} {tier.label}", **style)
    left.set_ylabel("bytes held (MiB)", fontsize=9, color=INK)
    _decorate(left, "size of each tier after each placement")
    accesses = np.maximum(1, placement.history["accesses"].to_numpy())
    for name, label, color, line in (
        ("cost_before_seconds", "before", GREY, "-"),
        ("cost_seconds", "after, moves included", ACCENT, "-"),
        ("lower_bound_seconds", "lower bound", BOUND, "--"),
    ):
        cost = placement.history[name].to_numpy() / accesses * 1e6
        marker = "" if line == "--" and len(times) > 1 else "o"
        right.plot(times, cost, line, color=color, marker=marker, markersize=4, linewidth=1.4, label=label)
    right.set_ylabel("predicted cost of an access (µs)", fontsize=9, color=INK)
    _decorate(right, "cost before and after each placement")
    for axes in (left, right):
        axes.set_ylim(bottom=0)
        axes.margins(y=0.15)
        axes.grid(visible=True, axis="y", color=FAINT, linewidth=0.7)
        axes.legend(frameon=False, fontsize=8)
        _date_axis(axes, times)
    return _png(figure)


def _draw_operation(axes: Axes, profile: TierProfile, operation: str, kind: str) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    for tier in Tier:
        wanted = (pc.field("tier") == str(tier)) & (pc.field("operation") == operation) & (pc.field("kind") == kind)
        if not profile.knows(tier, kind, operation):
            continue
        surface = profile.surface(tier, kind, operation)
        mean, half = 1e6 * surface.mean_seconds[-1], 1e6 * NORMAL_95 * surface.stderr_seconds[-1]
        color, size = SHADES[tier], surface.sizes / KIB
        axes.errorbar(
            size,
            mean,
            yerr=[np.minimum(half, 0.9 * mean), half],
            fmt=MARKERS[tier],
            color=color,
            markersize=4,
            elinewidth=1,
            label=f"{tier} {tier.label}",
        )
        if len(surface.reuse) > 1:
            just_read = 1e6 * surface.mean_seconds[0]
            axes.plot(
                size, just_read, MARKERS[tier], color=color, markersize=4, markerfacecolor="none", linestyle="none"
            )
        line = profile.costs.filter(wanted).to_pylist()[0]
        grid = np.geomspace(surface.sizes.min(), surface.sizes.max(), 60)
        axes.plot(grid / KIB, 1e6 * surface.line(grid), color=color, linewidth=1.2)
        low, high = (
            1e6 * (line[f"intercept_{end}"] + line[f"seconds_per_byte_{end}"] * grid) for end in ("low", "high")
        )
        axes.fill_between(grid / KIB, low, high, color=color, alpha=0.15, linewidth=0)


def _draw_bytes(axes: Axes, placement: TierPlacement) -> None:
    rows = placement.tiers.to_pylist()
    place = np.arange(len(rows))
    before = np.array([row["used_bytes_before"] for row in rows]) / MIB
    after = np.array([row["used_bytes_after"] for row in rows]) / MIB
    axes.barh(place - 0.19, before, height=0.34, color=GREY, label="before")
    axes.barh(place + 0.19, after, height=0.34, color=ACCENT, label="after")
    for row, y in zip(rows, place, strict=True):
        if row["capacity_bytes"] is not None:
            capacity = row["capacity_bytes"] / MIB
            label = "capacity" if y == 0 else None
            axes.plot([capacity, capacity], [y - 0.42, y + 0.42], color=INK, linewidth=1.5, label=label)
    axes.set_yticks(place, [f"{row['tier']} {Tier(row['tier']).label}" for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("bytes held (MiB)", fontsize=9, color=INK)
    _decorate(axes, "what each tier holds")
    axes.legend(frameon=False, fontsize=8)


def _draw_latencies(axes: Axes, placement: TierPlacement) -> None:
    for x, (name, replay, color) in enumerate(
        (("before", placement.replay_before, GREY), ("after", placement.replay_after, ACCENT))
    ):
        if replay is not None:
            _draw_replay(axes, x, replay, color, labelled=name == "after")
    axes.set_xticks([0, 1], ["before", "after"])
    axes.set_xlim(-0.6, 1.6)
    axes.set_ylim(bottom=0)
    axes.margins(y=0.2)
    axes.set_ylabel("mean latency of a get (µs)", fontsize=9, color=INK)
    _decorate(axes, "replayed accesses")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)


def _draw_replay(axes: Axes, x: float, replay: Replay, color: str, *, labelled: bool) -> None:
    """Measured as a bar and predicted as a point beside its middle, both with their 95 % intervals."""
    measured, predicted = replay.measured, replay.predicted
    mean = measured.mean_seconds * 1e6
    interval = [[mean - measured.mean_low * 1e6], [measured.mean_high * 1e6 - mean]]
    axes.bar(
        x, mean, width=0.6, color=color, yerr=interval, ecolor=INK, capsize=3, label="measured" if labelled else None
    )
    foretold = predicted.mean_seconds * 1e6
    around = [[foretold - predicted.mean_low * 1e6], [predicted.mean_high * 1e6 - foretold]]
    label = "predicted" if labelled else None
    axes.errorbar(x + 0.18, foretold, yerr=around, fmt="o", color=BOUND, markersize=5, capsize=3, label=label)


def _draw_costs(axes: Axes, placement: TierPlacement) -> None:
    unit = 1e6 / max(1, placement.accesses)
    before, after = placement.predicted_cost_before_seconds * unit, placement.predicted_cost_seconds * unit
    bound = placement.lower_bound_seconds * unit
    axes.bar([0, 1], [before, after], width=0.6, color=[GREY, ACCENT])
    axes.axhline(bound, color=BOUND, linewidth=1.4, linestyle="--", label="lower bound")
    axes.set_xticks([0, 1], ["before", "after,\nwith its moves"])
    axes.set_xlim(-0.6, 1.6)
    axes.set_ylim(bottom=0)
    axes.margins(y=0.2)
    axes.set_ylabel("predicted cost of an access (µs)", fontsize=9, color=INK)
    gap = "0" if bound == 0 else f"{placement.gap:.3%}"
    _decorate(axes, f"cost, {gap} above its bound")
    axes.legend(frameon=False, fontsize=8)


def _date_axis(axes: Axes, times: list[datetime]) -> None:
    """A few dates, the year only where it changes."""
    if not times:
        axes.set_xticks([])
        return
    axes.tick_params(axis="x", labelrotation=0)
    span = times[-1] - times[0]
    pattern = "%Y-%m" if span.days > 400 else "%d %b" if span.days >= 3 else "%d %b %H:%M"
    chosen = sorted({round(place) for place in np.linspace(0, len(times) - 1, min(4, len(times)))})
    axes.set_xticks([times[place] for place in chosen], [times[place].strftime(pattern) for place in chosen])


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # 0.3 s of import that only a plot has to pay

    return Figure(figsize=(width, height), layout="tight")


def _decorate(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, colors=INK)


def _png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # see _figure

    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=80)
    return buffer.getvalue()
