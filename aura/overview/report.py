"""One HTML file with the state of all assets, their costs and their pictures, to send to somebody.

Belongs here: what stands in it, and in which order. Does not: the look of figures (`markup`, `style.css`), pictures.

Everything is in the file: it loads nothing, and opens without a network.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from itertools import groupby

from aura.overview import markup
from aura.overview.assets import AssetRow, asset_rows
from aura.overview.cost_plots import plot_latest, plot_over_time
from aura.overview.costs import CostBook
from aura.overview.pictures import PICTURES
from aura.overview.stored import TierFigures, stored_values
from aura.overview.values import ValueView
from aura.services.status import Report
from aura.tiers.catalog import Catalog
from aura.tiers.errors import StoreError
from aura.tiers.published import CatalogError, Published

LATEST_RUNS = 40


@dataclass(frozen=True)
class State:
    """What is reported.

    Attributes:
        home: Where everything is kept.
        taken_at: When it was read, in UTC.
        book: The costs; None where they cannot be read.
        partitions: The registered sources.
        catalog: The published values; None where there is no store.
        tiers: The tiers; empty where no owner answers.
        services: What was asked of the services.
        dagster: Address of the Dagster UI, for links.
        absent: What could not be read, and why.
    """

    home: str
    taken_at: datetime
    book: CostBook | None
    partitions: tuple[str, ...]
    catalog: Catalog | None
    tiers: tuple[TierFigures, ...]
    services: Report
    dagster: str
    absent: tuple[tuple[str, str], ...]


def write_report(state: State) -> str:
    """The HTML of the report."""
    body = "\n".join(_sections(state))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>AURA report</title>'
        f"<style>{markup.STYLE.read_text()}{_PAGE}</style></head><body>{body}</body></html>"
    )


def _sections(state: State) -> Iterator[str]:
    now = state.taken_at
    yield markup.title("report: what is fresh, what it cost, where it lives")
    yield markup.note(f"home {state.home}, read on {now:%Y-%m-%d at %H:%M UTC}")
    yield from (markup.remedy(title, reason) for title, reason in state.absent)
    book = state.book or CostBook({})
    published = [] if state.catalog is None else state.catalog.published()
    stored = () if state.catalog is None else stored_values(state.catalog.store, published)
    rows = asset_rows(book, stored, state.partitions)
    if not rows:
        yield markup.remedy("Nothing is materialized yet", "`make demo` computes the built-in sources.", alarm=False)
    else:
        yield markup.overview(rows, now)
    known = markup.Known(costs=state.book is not None, store=state.catalog is not None)
    yield from _assets(rows, now, state.dagster, known)
    if state.tiers:
        yield "<h2>Memory tiers</h2>" + markup.tier_cards(state.tiers)
    yield from _costs(book, rows, now, state.dagster)
    yield from _values(state.catalog, published)
    yield "<h2>Services</h2>" + markup.service_table(state.services)


def _assets(rows: Iterable[AssetRow], now: datetime, dagster: str, known: markup.Known) -> Iterator[str]:
    yield "<h2>Assets</h2>"
    for partition, group in groupby(rows, key=lambda row: row.partition):
        tried = [row for row in group if row.stored or row.succeeded_at or row.setback]
        if tried:
            yield markup.heading(partition) + markup.asset_table(tried, now, dagster, known)


def _costs(book: CostBook, rows: Iterable[AssetRow], now: datetime, dagster: str) -> Iterator[str]:
    yield "<h2>Costs</h2>"
    for title, png in (("Of the last computation", plot_latest(rows)), ("Over time", plot_over_time(book))):
        if png is not None:
            yield _picture(png, title)
    runs = sorted(book.runs, key=lambda run: run.started_at, reverse=True)[:LATEST_RUNS]
    if runs:
        yield "<h3>Latest runs</h3>" + markup.run_table(runs, now, dagster)


def _values(catalog: Catalog | None, published: Sequence[Published]) -> Iterator[str]:
    if catalog is None:
        return
    values = ValueView(lambda: catalog.store, lambda: published)
    for each in published:
        if each.name not in PICTURES:
            continue
        title = each.name if each.partition is None else f"{each.name} of {each.partition}"
        yield f"<h2>{escape(title)}</h2>"
        made = datetime.fromisoformat(each.created_at).astimezone(UTC)
        yield markup.note(f"Computed on {made:%Y-%m-%d at %H:%M UTC}, version {each.version}.")
        try:
            shown = values.get(each.name, each.partition)
            pictures = shown.pictures() if shown else []
        except (CatalogError, StoreError) as error:
            yield markup.remedy("It cannot be read", str(error))
            continue
        yield from (_picture(png, caption) for caption, png in pictures)


def _picture(png: bytes, title: str) -> str:
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return f'<figure><img alt="{escape(title)}" src="{source}"><figcaption>{escape(title)}</figcaption></figure>'


_PAGE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1180px; margin: 2rem auto; padding: 0 1rem; }
h2 { margin: 2.2rem 0 .6rem; font-size: 1.3rem; } h3 { font-size: 1.05rem; }
a { color: inherit; }
figure { margin: .8rem 0; } figure img { max-width: 100%; border-radius: .5rem; background: white; }
figcaption { font-size: .82rem; opacity: .65; }
@media print { body { margin: 0; } h2 { break-after: avoid; } figure { break-inside: avoid; } }
"""
