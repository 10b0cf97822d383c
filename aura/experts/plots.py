"""Pictures of routing and training, as PNG bytes."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aura.experts.model import ExpertModel
from aura.experts.routing.requests import RequestActivations
from aura.experts.routing.table import RoutingTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACCENT = "#0f766e"
MUTED = "#94a3b8"
WARNING = "#b45309"
DPI = 80


def plot_expert_load(table: RoutingTable) -> bytes:
    """How evenly the experts are loaded.

    One layer: bars of the assignments that each expert kept and dropped, with the fair share, and the capacity where
    it is a factor of it. More: a heat map of the utilisation by layer and expert, 1 being the fair share.
    """
    layers = table.layers.num_rows
    if layers > 1:
        return _plot_utilisation(table)
    figure = _figure(6.4, 3.2)
    axes = figure.subplots()
    experts = table.experts["expert"].to_numpy()
    kept, dropped = table.experts["kept"].to_numpy(), table.experts["dropped"].to_numpy()
    fair = table.layers["assignments"][0].as_py() / len(experts)
    axes.bar(experts, kept, color=ACCENT, label="kept")
    axes.bar(experts, dropped, bottom=kept, color=WARNING, label="dropped")
    axes.axhline(fair, color=MUTED, linewidth=1, linestyle=":", label="fair share")
    factor = table.figures.capacity_factor
    if factor is not None:
        capacity = f"capacity ({factor:g} x fair share)"
        axes.axhline(fair * factor, color="black", linewidth=1, linestyle="--", label=capacity)
    axes.set_xticks(*_ticks(len(experts)))
    axes.set_xlabel("expert")
    axes.set_ylabel("tokens")
    axes.legend(frameon=False, fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return _png(figure)


def plot_label_experts(table: RoutingTable, top: int = 24) -> bytes:
    """Heat map of the share of each label's assignments on each expert, for the `top` labels with most of them.

    Of the layer whose experts tell most about the label beyond chance.
    """
    known = table.labels.filter(pc.is_valid(table.labels["label"]))
    if known.num_rows == 0:
        return _notice("no item has a label")
    layer = int(np.argmax(table.column("label_bits") - table.column("label_shuffled_mean_bits")))
    rows = known.filter(pc.equal(known["layer"], layer))
    totals = rows.group_by("label").aggregate([("tokens", "sum")])
    ordered = totals.sort_by([("tokens_sum", "descending"), ("label", "ascending")])
    labels = ordered["label"].to_pylist()[:top]
    place = {label: row for row, label in enumerate(labels)}
    experts = table.layers["experts"][layer].as_py()
    share = np.zeros((len(labels), experts))
    for row in rows.to_pylist():
        if row["label"] in place:
            share[place[row["label"]], row["expert"]] = row["share"]
    figure = _figure(5.6, 1.2 + 0.18 * max(len(labels), 4))
    axes = figure.subplots()
    image = axes.imshow(100 * share, aspect="auto", cmap="Greens", vmin=0, vmax=100 * max(share.max(), 1 / experts))
    axes.set_yticks(range(len(labels)), labels, fontsize=7)
    axes.set_xticks(*_ticks(experts))
    axes.set_xlabel("expert" if table.layers.num_rows == 1 else f"expert of layer {layer}")
    axes.set_ylabel("label")
    figure.colorbar(image, label="share of the label (%)")
    return _png(figure)


def plot_coactivation(table: RoutingTable) -> bytes:
    """Heat maps of the probability that a token that chose one expert chose another one too, of up to four layers."""
    if table.coactivation.num_rows == 0:
        return _notice("each token has one expert: none are chosen together")
    return _plot_pairs(table, table.coactivation, "other", "and this one (%)")


def plot_transitions(table: RoutingTable) -> bytes:
    """Heat maps of where the tokens of an expert go in the next layer, of up to four layers."""
    if table.transitions.num_rows == 0:
        return _notice("no two layers follow each other")
    return _plot_pairs(table, table.transitions, "next_expert", "then this one (%)")


def plot_activations(activations: RequestActivations) -> bytes:
    """Heat map of the tokens of a request by layer and expert."""
    layers, experts = activations.matrix.shape
    figure = _figure(6.4, 1.4 + 0.14 * max(layers, 6))
    axes = figure.subplots()
    image = axes.imshow(activations.matrix, aspect="auto", cmap="Greens", vmin=0)
    axes.set_yticks(*_ticks(layers))
    axes.set_xticks(*_ticks(experts))
    axes.set_xlabel("expert")
    axes.set_ylabel("layer")
    figure.colorbar(image, label="tokens")
    return _png(figure)


def _plot_utilisation(table: RoutingTable) -> bytes:
    sizes = table.layers["experts"].to_pylist()
    utilisation = np.full((len(sizes), max(sizes)), np.nan)
    layers, experts = table.experts["layer"].to_numpy(), table.experts["expert"].to_numpy()
    utilisation[layers, experts] = table.experts["utilisation"].to_numpy()
    figure = _figure(6.4, 1.4 + 0.14 * max(len(sizes), 6))
    axes = figure.subplots()
    image = axes.imshow(utilisation, aspect="auto", cmap="BrBG", vmin=0, vmax=2)
    axes.set_yticks(*_ticks(len(sizes)))
    axes.set_xticks(*_ticks(max(sizes)))
    axes.set_xlabel("expert")
    axes.set_ylabel("layer")
    figure.colorbar(image, label="load over the fair share", extend="max")
    return _png(figure)


def _plot_pairs(table: RoutingTable, pairs: pa.Table, second: str, label: str) -> bytes:
    present = np.unique(pairs["layer"].to_numpy())
    shown = present[np.unique(np.linspace(0, len(present) - 1, min(4, len(present))).astype(int))]
    figure = _figure(2.6 * len(shown) + 0.8, 3.0)
    grid = figure.subplots(1, len(shown), squeeze=False)[0]
    sizes = table.layers["experts"].to_pylist()
    for axes, layer in zip(grid, shown.tolist(), strict=True):
        rows = pairs.filter(pc.equal(pairs["layer"], layer))
        onto = sizes[layer] if second == "other" else sizes[layer + 1]
        heat = np.zeros((sizes[layer], onto))
        heat[rows["expert"].to_numpy(), rows[second].to_numpy()] = rows["probability"].to_numpy()
        image = axes.imshow(100 * heat, cmap="Greens", vmin=0)
        axes.set_title(f"layer {layer}", fontsize=8)
        axes.set_xticks(*_ticks(onto))
        axes.set_yticks(*_ticks(sizes[layer]))
        axes.set_xlabel(label, fontsize=8)
        figure.colorbar(image, shrink=0.7)
    grid[0].set_ylabel("of this expert's tokens")
    return _png(figure)


def _ticks(count: int) -> tuple[list[int], list[str]]:
    """Places and texts of about sixteen ticks at most."""
    places = list(range(0, count, max(1, math.ceil(count / 16))))
    return places, [str(place) for place in places]


def plot_training(model: ExpertModel) -> bytes:
    """Training loss and held-out accuracy per epoch, the Switch classifier beside its dense twin."""
    figure = _figure(7.2, 3.0)
    loss, accuracy = figure.subplots(1, 2)
    history = model.card.history
    epochs = [record.epoch for record in history]
    # A single epoch is a point, of which no line would be drawn.
    for name, colour, losses, shares in (
        ("Switch", ACCENT, [r.switch_loss for r in history], [100 * r.switch_held_out for r in history]),
        ("dense twin", MUTED, [r.dense_loss for r in history], [100 * r.dense_held_out for r in history]),
    ):
        loss.plot(epochs, losses, "o-", color=colour, markersize=3, label=name)
        accuracy.plot(epochs, shares, "o-", color=colour, markersize=3, label=name)
    loss.set_ylabel("training cross-entropy (nats)")
    majority = 100 * model.card.scores.majority.value
    accuracy.axhline(majority, color="black", linewidth=1, linestyle=":", label="most frequent label")
    accuracy.set_ylabel("held-out accuracy (%)")
    for axes in (loss, accuracy):
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
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
