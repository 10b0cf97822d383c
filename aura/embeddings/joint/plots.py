"""Pictures of what a joint model reaches and how it was trained, as PNG bytes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from aura.embeddings.joint.card import JointCard
from aura.embeddings.joint.evaluation import Evaluation
from aura.embeddings.joint.unheard import UnheardSpeakers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACCENT = "#0f766e"
COLOURS = ("#0f766e", "#b45309", "#1d4ed8")
MUTED = "#94a3b8"
DPI = 80


def plot_recall(evaluation: Evaluation) -> bytes:
    """Recall@1 of every ordered pair of modalities, with chance below each figure; a pair never trained has a star."""
    names = [name for name, _ in evaluation.items]
    table = np.full((len(names), len(names)), np.nan)
    figure = _figure(1.6 + 1.1 * len(names), 1.2 + 0.8 * len(names))
    axes = figure.subplots()
    for entry in evaluation.retrieval:
        row, column = names.index(entry.query), names.index(entry.gallery)
        table[row, column] = 100 * entry.recall_at_1.value
        star = "" if entry.trained else "*"
        axes.text(
            column,
            row,
            f"{table[row, column]:.1f}{star}\n({100 * entry.chance_recall_at_1:.1f})",
            ha="center",
            va="center",
            fontsize=9,
            color="white" if table[row, column] > 60 else "black",
        )
    axes.imshow(table, cmap="Greens", vmin=0, vmax=100, aspect="auto")
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("found (* never compared in training)")
    axes.set_ylabel("query")
    axes.set_title("recall@1 in % (chance), held out: " + evaluation.held_out, fontsize=8, loc="left")
    return _png(figure)


def plot_training(card: JointCard) -> bytes:
    """The loss of each trained pair over the steps."""
    figure = _figure(5.6, 3.0)
    axes = figure.subplots()
    steps = [record.step for record in card.history]
    for number, (one, other) in enumerate(card.pairs):
        losses = [record.pairs[number] for record in card.history]
        axes.plot(steps, losses, color=COLOURS[number % len(COLOURS)], label=f"{one} and {other}")
    axes.set_xlabel("step")
    axes.set_ylabel("contrastive loss (nats)")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def plot_speakers(unheard: UnheardSpeakers) -> bytes:
    """How many sounds of each speaker are named, by a model that has never heard this speaker, beside the baselines."""
    figure = _figure(6.4, 3.0)
    axes = figure.subplots()
    namings = [
        next((entry for entry in speaker.evaluation.naming if entry.modality == "audio"), None)
        for speaker in unheard.speakers
    ]
    kinds = sorted({name for naming in namings if naming for name, _ in naming.supervised})
    series = {"joint model": [naming.zero_shot if naming else None for naming in namings]}
    series |= {kind: [dict(naming.supervised).get(kind) if naming else None for naming in namings] for kind in kinds}
    width = 0.8 / len(series)
    for number, (name, shares) in enumerate(series.items()):
        places = np.arange(len(shares)) + (number - (len(series) - 1) / 2) * width
        values = [100 * share.value if share else 0.0 for share in shares]
        axes.bar(places, values, width=width, color=(ACCENT, MUTED, "#cbd5e1")[number % 3], label=name)
    axes.set_xticks(range(len(namings)), [speaker.speaker for speaker in unheard.speakers], fontsize=8)
    axes.set_ylabel("sounds named rightly (%)")
    axes.set_ylim(0, 100)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="tight")


def _png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
