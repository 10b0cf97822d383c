"""What a source holds, drawn."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.compute as pc

from aura.corpus.manifest import OK, CorpusManifest

MOST_LABELS = 20
_COLOUR = "#0b6e99"
_OTHER = "#b8bec6"


def plot_labels(manifest: CorpusManifest) -> bytes:
    """Draw the usable items per label, the most frequent labels first, as a PNG.

    Labels beyond the first twenty are one bar, and items without a label another, both in grey.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names, counts, named = _bars(manifest)
    figure = Figure(figsize=(6.4, max(1.6, 0.22 * len(names) + 0.8)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.barh(names, counts, color=[_COLOUR] * named + [_OTHER] * (len(names) - named))
    axes.invert_yaxis()
    axes.set_xlabel("items")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return buffer.getvalue()


def _bars(manifest: CorpusManifest) -> tuple[list[str], list[int], int]:
    """Names and heights of the bars, and how many of them are single labels."""
    usable = manifest.table.filter(pc.equal(manifest.table["status"], OK))
    grouped: pa.Table = usable.group_by("label").aggregate([([], "count_all")])
    counted = sorted(
        zip(grouped["label"].to_pylist(), grouped["count_all"].to_pylist(), strict=True),
        key=lambda pair: (-pair[1], str(pair[0])),
    )
    labelled = [(name, count) for name, count in counted if name is not None]
    shown, rest = labelled[:MOST_LABELS], labelled[MOST_LABELS:]
    unlabelled = sum(count for name, count in counted if name is None)
    bars = [*shown]
    if rest:
        bars.append((f"{len(rest)} other labels", sum(count for _, count in rest)))
    if unlabelled:
        bars.append(("no label", unlabelled))
    return [name for name, _ in bars], [count for _, count in bars], len(shown)
