"""Pictures of routing and training, as PNG bytes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from aura.experts.model import ExpertModel
from aura.experts.routing_table import RoutingTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACCENT = "#0f766e"
MUTED = "#94a3b8"
WARNING = "#b45309"
DPI = 80


def plot_expert_load(table: RoutingTable) -> bytes:
    """Bars of the items that each expert kept and dropped, with the fair share and the capacity as lines."""
    figure = _figure(6.4, 3.2)
    axes = figure.subplots()
    experts = table.experts["expert"].to_numpy()
    kept, dropped = table.experts["kept"].to_numpy(), table.experts["dropped"].to_numpy()
    fair = table.figures.items / table.figures.experts
    axes.bar(experts, kept, color=ACCENT, label="kept")
    axes.bar(experts, dropped, bottom=kept, color=WARNING, label="dropped")
    axes.axhline(fair, color=MUTED, linewidth=1, linestyle=":", label="fair share")
    capacity = f"capacity ({table.figures.capacity_factor:g} x fair share)"
    axes.axhline(fair * table.figures.capacity_factor, color="black", linewidth=1, linestyle="--", label=capacity)
    axes.set_xticks(experts)
    axes.set_xlabel("expert")
    axes.set_ylabel("items")
    axes.legend(frameon=False, fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return _png(figure)


def plot_label_experts(table: RoutingTable, top: int = 24) -> bytes:
    """Heat map of the share of each label's items on each expert, for the `top` labels with most items."""
    labels = table.labels["label"].to_pylist()[:: table.figures.experts]
    tokens = table.labels["tokens"].to_numpy().reshape(len(labels), table.figures.experts)
    known = [row for row, label in enumerate(labels) if label is not None]
    rows = sorted(known, key=lambda row: (-tokens[row].sum(), labels[row]))[:top]
    if not rows:
        return _notice("no item has a label")
    share = tokens[rows] / tokens[rows].sum(axis=1, keepdims=True)
    figure = _figure(5.6, 1.2 + 0.18 * max(len(rows), 4))
    axes = figure.subplots()
    image = axes.imshow(100 * share, aspect="auto", cmap="Greens", vmin=0, vmax=100)
    axes.set_yticks(range(len(rows)), [labels[row] for row in rows], fontsize=7)
    axes.set_xticks(range(table.figures.experts))
    axes.set_xlabel("expert")
    axes.set_ylabel("label")
    figure.colorbar(image, label="share of the label's items (%)")
    return _png(figure)


def plot_training(model: ExpertModel) -> bytes:
    """Training loss and held-out accuracy per epoch, the Switch classifier beside its dense twin."""
    figure = _figure(7.2, 3.0)
    loss, accuracy = figure.subplots(1, 2)
    history = model.card.history
    epochs = [record.epoch for record in history]
    loss.plot(epochs, [record.switch_loss for record in history], color=ACCENT, label="Switch")
    loss.plot(epochs, [record.dense_loss for record in history], color=MUTED, label="dense twin")
    loss.set_ylabel("training cross-entropy (nats)")
    accuracy.plot(epochs, [100 * record.switch_held_out for record in history], color=ACCENT, label="Switch")
    accuracy.plot(epochs, [100 * record.dense_held_out for record in history], color=MUTED, label="dense twin")
    majority = 100 * model.card.scores.majority.value
    accuracy.axhline(majority, color="black", linewidth=1, linestyle=":", label="most frequent label")
    accuracy.set_ylabel("held-out accuracy (%)")
    for axes in (loss, accuracy):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(frameon=False, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="tight")


def _notice(text: str) -> bytes:
    figure = _figure(4.0, 1.0)
    figure.text(0.5, 0.5, text, ha="center", va="center")
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
