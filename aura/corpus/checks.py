"""Statements that a manifest has to fulfil before anything is computed from it."""

from __future__ import annotations

import pyarrow.compute as pc

from aura.corpus.manifest import OK, CorpusManifest
from aura.corpus.rows import content_id
from aura.measure.checks import CheckResult


def most_items_usable(manifest: CorpusManifest) -> CheckResult:
    """Whether at least half of the listed items can be used; an empty source passes."""
    listed = manifest.table.num_rows
    usable = pc.sum(pc.equal(manifest.table["status"], OK)).as_py() or 0
    return CheckResult(
        passed=2 * usable >= listed,
        figures={"listed": float(listed), "usable": float(usable)},
        description=f"{usable} of {listed} listed items can be used; the others are set aside with their reasons",
    )


def identifiers_match_texts(manifest: CorpusManifest) -> CheckResult:
    """Whether every text item carries a text and an identifier that is the digest of that text."""
    items = manifest.items("text")
    wrong = [
        uri
        for uri, item_id, text in zip(
            items["uri"].to_pylist(), items["item_id"].to_pylist(), items["text"].to_pylist(), strict=True
        )
        if text is None or content_id(text.encode()) != item_id
    ]
    return CheckResult(
        passed=not wrong,
        figures={"texts": float(items.num_rows), "wrong": float(len(wrong))},
        description=f"{len(wrong)} of {items.num_rows} texts do not have the digest that they are listed under"
        + (f", the first is {wrong[0]}" if wrong else ""),
    )
