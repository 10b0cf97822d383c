"""`aura search`: the nearest items, with scores and previews.

Belongs here: printing. Does not: anything that another program needs.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aura.corpus.cli import source_names
from aura.loading import open_catalog
from aura.search.places import Within
from aura.settings import load_settings
from aura.terminal import AsJson, completing, print_json, working

if TYPE_CHECKING:
    from aura.search.finding import Found

console = Console()


def search(
    query: Annotated[str, typer.Argument(help="A sentence, or the path of an image, a sound or a text.")],
    within: Annotated[Within | None, typer.Option("--in", help="By default items like the query.")] = None,
    source: Annotated[
        str | None, typer.Option(autocompletion=completing(source_names), help="Name of the source; by default all.")
    ] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many items.")] = 10,
    *,
    as_json: AsJson = False,
) -> None:
    """Print the items nearest to a query.

    For example `aura search "parse a date"`, `aura search seven --in images`, `aura search spoken.wav --in texts`.
    As JSON they have no previews.
    """
    from aura.search.finding import find_published
    from aura.search.preview import printable

    settings = load_settings()
    with open_catalog() as catalog, working("Searching ..."):
        found = find_published(catalog, settings, query, within=within, source=source, count=count)
    if as_json:
        print_json(_as_object(found))
        return
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("cosine", justify="right")
    table.add_column("label")
    table.add_column("preview", max_width=72)
    table.add_column("item", overflow="fold")
    in_colour = console.color_system is not None
    for hit, shown in zip(found.hits, found.previews, strict=True):
        words = (hit.label or "", f"{hit.source}: {hit.uri}")
        label, item = (escape(printable(text)) for text in words)
        table.add_row(f"{hit.score:.3f}", label, shown.drawn(colours=in_colour), item)
    console.print(table)
    console.print(f"of {found.answer.searched:,} items, by {escape(printable(found.answer.model))}", style="dim")


def _as_object(found: Found) -> dict[str, Any]:
    answer = found.answer
    return {
        "query": {"modality": answer.query.modality, "shown": answer.query.shown},
        "model": answer.model,
        "searched": answer.searched,
        "hits": [asdict(hit) for hit in answer.hits],
    }
