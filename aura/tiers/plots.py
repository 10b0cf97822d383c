"""Plots of the measured tiers and of a placement, as PNG bytes.

Belongs here: what the profile and the placement look like. Does not: computing any figure.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from aura.tiers.store import Tier

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from aura.tiers.placement import TierPlacement
    from aura.tiers.profile import TierProfile

ACCENT = "#0b6e99"
GREY = "#b8bec4"
INK = "#30363c"
SHADES = {Tier.L0: "#5c2a9d", Tier.L1: ACCENT, Tier.L2: "#4d9a76", Tier.L3: "#8a8f98"}
MARKERS = {Tier.L0: "D", Tier.L1: "o", Tier.L2: "s", Tier.L3: "^"}
KIB, MIB = 1 << 10, 1 << 20


def plot_profile(profile: TierProfile, *, kind: str = "table") -> bytes:
    """Draw latency against size for each tier, both logarithmic: medians with their 10 to 90 % range, and the lines.

    Args:
        profile: The measured costs.
        kind: Kind of the objects that are read, "bytes", "table" or "tensors"; puts are of bytes.

    Returns:
        A PNG with one panel for gets and one for puts.
    """
    figure = _figure(8.4, 3.6)
    for axes, (operation, what) in zip(
        figure.subplots(1, 2, sharey=True), (("get", kind), ("put", "bytes")), strict=True
    ):
        _draw_operation(axes, profile, operation, what)
        _decorate(axes, f"{operation} of {what}")
        axes.set_xlabel("object size (KiB)")
    figure.axes[0].set_ylabel("latency (µs)")
    if figure.axes[0].get_legend_handles_labels()[0]:
        figure.axes[0].legend(frameon=False, fontsize=8)
    return _png(figure)


def plot_placement(placement: TierPlacement) -> bytes:
    """Draw what each tier holds before and after against its capacity, and the mean latency of a get.

    Returns:
        A PNG with one panel for the bytes and one for the latencies, measured (95 % interval) and predicted.
    """
    figure = _figure(8.4, 3.2)
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    _draw_bytes(left, placement)
    _draw_latencies(right, placement)
    return _png(figure)


def _draw_operation(axes: Axes, profile: TierProfile, operation: str, kind: str) -> None:
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_yscale("log")
    for tier in Tier:
        rows = profile.samples.filter(
            (pc.field("tier") == str(tier)) & (pc.field("operation") == operation) & (pc.field("kind") == kind)
        )
        if not rows.num_rows:
            continue
        size = rows["bytes"].to_numpy()
        median, low, high = (rows[name].to_numpy() * 1e6 for name in ("median_seconds", "p10_seconds", "p90_seconds"))
        axes.errorbar(
            size / KIB,
            median,
            yerr=[median - low, high - median],
            fmt=MARKERS[tier],
            color=SHADES[tier],
            markersize=4,
            elinewidth=1,
            label=f"{tier} {tier.label}",
        )
        if profile.knows(tier, kind, operation):
            grid = np.geomspace(size.min(), size.max(), 60)
            line = profile.line_seconds(tier, grid, kind, operation) * 1e6
            axes.plot(grid / KIB, line, color=SHADES[tier], linewidth=1.2)


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
    axes.set_xlabel("bytes held (MiB)")
    _decorate(axes, "what each tier holds")
    axes.legend(frameon=False, fontsize=8)


def _draw_latencies(axes: Axes, placement: TierPlacement) -> None:
    measured = (placement.measured_before, placement.measured_after)
    predicted = (placement.predicted_mean_before, placement.predicted_mean_after)
    for x, (summary, color) in enumerate(zip(measured, (GREY, ACCENT), strict=True)):
        if summary is None:
            continue
        mean = summary.mean_seconds * 1e6
        interval = [[mean - summary.mean_low * 1e6], [summary.mean_high * 1e6 - mean]]
        axes.bar(x, mean, width=0.55, color=color, yerr=interval, ecolor=INK, capsize=3)
    axes.plot([0, 1], np.array(predicted) * 1e6, linestyle="none", marker="_", markersize=22, color=INK)
    axes.set_xticks([0, 1], ["before", "after"])
    axes.set_xlim(-0.6, 1.6)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("mean latency of a get (µs)")
    _decorate(axes, "measured; predicted as a dash")


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure  # 0.3 s of import that only a plot has to pay

    return Figure(figsize=(width, height), layout="tight")


def _decorate(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=INK)


def _png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # see _figure

    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", dpi=80)
    return buffer.getvalue()
