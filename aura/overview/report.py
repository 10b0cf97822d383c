"""One HTML file with the state of all assets, their costs and their pictures, to send to somebody.

Belongs here: what stands in it, in which order, and the file. Does not: reading (`project`), the look of figures
(`markup`, `style.css`).

Everything is in the file: it loads nothing, and opens without a network. It does not link to Dagster,
which listens on the sender's machine alone.
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from itertools import groupby
from pathlib import Path

from aura.overview import asset_markup, markup
from aura.overview.assets import AssetRow, asset_rows
from aura.overview.cost_plots import plot_latest, plot_over_time
from aura.overview.costs import RUNS_PER_ASSET, CostBook
from aura.overview.project import DrawnValue, Section, State

LATEST_RUNS = 40
"""Runs that are listed."""


def write_report(state: State) -> str:
    """The HTML of the report."""
    body = "\n".join(_page(state))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>AURA report</title>'
        f"<style>{markup.STYLE.read_text()}{_STYLE}</style></head><body>{body}</body></html>"
    )


def save_report(content: str, target: Path) -> None:
    """Write the HTML to a file; what was there before stays as it is until all of the new one is on the disk.

    Args:
        content: The HTML.
        target: The file, in a directory that exists; a link stays one.

    Raises:
        OSError: It cannot be written.
    """
    place = target.resolve()
    draft = place.with_name(f".aura-report-{secrets.token_hex(8)}")
    try:
        with draft.open("x", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if place.exists():
            shutil.copymode(place, draft)
        draft.replace(place)
    except OSError as error:
        raise OSError(
            f"{target} cannot be written: {error.strerror}; free space there, or give another place"
        ) from error
    finally:
        draft.unlink(missing_ok=True)


def _page(state: State) -> Iterator[str]:
    stored = () if state.kept is None else state.kept.stored
    rows = asset_rows(state.book or CostBook({}), stored, state.partitions)
    yield markup.title("report: what is fresh, what it cost, where it lives")
    yield markup.note(f"home {state.home}, read on {state.taken_at:%Y-%m-%d at %H:%M UTC}; ages count to then")
    links = (f'<a href="#{_anchor(section)}">{section}</a>' for section in _SECTIONS)
    yield f"<nav>{' '.join(links)}</nav>"
    if unread := state.unread():
        yield markup.remedy("Something could not be read", f"The reasons are under {', '.join(unread)}.")
    if rows and state.book is not None:
        yield asset_markup.overview(rows, state.taken_at)
    for section, content in _SECTIONS.items():
        yield f'<h2 id="{_anchor(section)}">{section}</h2>'
        missing = [absence for absence in state.absences if absence.section is section]
        yield from (markup.remedy(each.title, each.reason, alarm=each.alarm) for each in missing)
        yield from content(state, rows)


def _anchor(section: Section) -> str:
    return section.name.lower()


def _assets(state: State, rows: Sequence[AssetRow]) -> Iterator[str]:
    known = asset_markup.Known(costs=state.book is not None, store=state.kept is not None)
    if not rows and known.costs:
        yield markup.remedy("Nothing is materialized yet", "`make demo` computes the built-in sources.", alarm=False)
    for partition, group in groupby(rows, key=lambda row: row.partition):
        there = list(group)
        tried = [row for row in there if row.tried]
        never = [row.asset for row in there if not row.tried]
        yield markup.heading(partition)
        if tried:
            yield asset_markup.asset_table(tried, state.taken_at, None, known)
        if never and known.costs:
            yield markup.note(f"Never materialized here: {', '.join(never)}.")


def _alerts(state: State, _: Sequence[AssetRow]) -> Iterator[str]:
    if state.alerts:
        yield markup.alert_table(state.alerts, state.taken_at)
    elif state.alerts is not None:
        yield markup.note("Nothing was raised, and no drift was found.")


def _tiers(state: State, _: Sequence[AssetRow]) -> Iterator[str]:
    if state.kept is None or not state.kept.tiers:
        return
    if not state.kept.owned:
        yield markup.note("No process owned the store: it was read from the disk, and nothing was in a faster tier.")
    yield markup.tier_cards(state.kept.tiers)


def _events(state: State, _: Sequence[AssetRow]) -> Iterator[str]:
    if state.topics is not None:
        yield markup.note("Lag is what a consumer has not committed.")
        yield markup.topic_table(state.topics, state.taken_at)


def _costs(state: State, rows: Sequence[AssetRow]) -> Iterator[str]:
    if state.book is None:
        return
    pictures = (("Of the last computation", plot_latest(rows)), ("Over time", plot_over_time(state.book)))
    yield _pictures([(title, png) for title, png in pictures if png is not None])
    if cut := [asset for asset in state.book.series if state.book.begins_at(asset) is not None]:
        yield markup.note(
            f"Over time: of {', '.join(cut)} the latest {RUNS_PER_ASSET} runs, earlier ones are left out."
        )
    runs = sorted(state.book.runs, key=lambda run: run.started_at, reverse=True)[:LATEST_RUNS]
    if runs:
        yield "<h3>Latest runs</h3>" + asset_markup.run_table(runs, state.taken_at, None)
    else:
        yield markup.note("No materialization has been recorded yet.")


def _values(state: State, _: Sequence[AssetRow]) -> Iterator[str]:
    values = [] if state.kept is None else state.kept.values
    for partition, group in groupby(values, key=lambda each: each.published.partition):
        yield markup.heading(partition)
        yield from map(_value, group)


def _value(drawn: DrawnValue) -> str:
    published = drawn.published
    made = datetime.fromisoformat(published.created_at).astimezone(UTC)
    title = f"<h4>{escape(published.name)}</h4>"
    if drawn.unreadable is not None:
        what = "Not all of it can be drawn" if drawn.pictures else "It cannot be shown"
        title += markup.remedy(what, drawn.unreadable)
    note = markup.note(f"Published on {made:%Y-%m-%d at %H:%M UTC}, version {published.version}.")
    return title + note + _pictures(drawn.pictures)


def _services(state: State, _: Sequence[AssetRow]) -> Iterator[str]:
    yield markup.service_table(state.services)


def _pictures(pictures: Sequence[tuple[str, bytes]]) -> str:
    return f'<div class="pictures">{"".join(_picture(title, png) for title, png in pictures)}</div>'


def _picture(title: str, png: bytes) -> str:
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return f'<figure><img alt="{escape(title)}" src="{source}"><figcaption>{escape(title)}</figcaption></figure>'


_SECTIONS: Mapping[Section, Callable[[State, Sequence[AssetRow]], Iterator[str]]] = {
    Section.ASSETS: _assets,
    Section.ALERTS: _alerts,
    Section.TIERS: _tiers,
    Section.EVENTS: _events,
    Section.COSTS: _costs,
    Section.VALUES: _values,
    Section.SERVICES: _services,
}

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1320px; margin: 2rem auto; padding: 0 1rem; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; margin: .8rem 0 1.2rem; font-size: .92rem; }
h2 { margin: 2.6rem 0 .6rem; font-size: 1.35rem; } h3, h3.au-part { margin: 1.4rem 0 .4rem; font-size: 1.05rem; }
h4 { margin: 1.4rem 0 .1rem; font-size: .98rem; }
a { color: inherit; }
.au-remedy { margin: .6rem 0; }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; margin: .7rem 0; align-items: flex-start; }
figure { margin: 0; max-width: 100%; } figure img { max-width: 100%; border-radius: .5rem; background: white; }
figcaption { font-size: .82rem; opacity: var(--au-muted); }
@media print { body { margin: 0; } h2, h3, h4 { break-after: avoid; } figure, tr { break-inside: avoid; } }
"""
