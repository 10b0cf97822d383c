"""Figures as HTML, for the dashboard and the report.

Belongs here: text that is escaped, classes that `style.css` gives their look. Does not: what is said of assets and
their runs (`asset_markup`), pages, reading anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from html import escape
from pathlib import Path

from aura.overview import units
from aura.overview.event_log import TailRecord, TopicFigures
from aura.overview.machine import Load
from aura.overview.stored import StoredValue, TierFigures
from aura.search.preview import Preview
from aura.search.searcher import Hit
from aura.services.probe import State
from aura.services.status import Report, Service
from aura.tiers.records import Tier

Cell = tuple[str, str]
"""Heading and HTML."""

STYLE = Path(__file__).with_name("style.css")
"""The look of it all."""

DETAILS = 400
"""Characters of an alert's data."""


def title(subtitle: str) -> str:
    """The head of a page."""
    return f'<h1 class="au-title"><b>AURA</b><span>{escape(subtitle)}</span></h1>'


def tier_cards(figures: Iterable[TierFigures]) -> str:
    """One card per tier: used against capacity, objects, gets, mean get latency."""
    return f'<div class="au-cards">{"".join(_tier_card(each) for each in figures)}</div>'


def _tier_card(figures: TierFigures) -> str:
    state = figures.state
    share = 0.0 if not state.capacity_bytes else state.used_bytes / state.capacity_bytes
    capacity = "of the disk" if state.capacity_bytes is None else f"of {units.size(state.capacity_bytes)}"
    bar = _NO_BAR if state.capacity_bytes is None else _BAR.format(share)
    facts = [
        ("objects", f"{state.objects:,}"),
        ("gets since opened", f"{state.gets:,}"),
        ("mean get since opened", _latency(state.get_seconds, state.gets)),
    ]
    if figures.recent_seconds > 0:
        recent = f"last {figures.recent_seconds:.0f} s"
        facts.insert(2, (f"gets, {recent}", f"{figures.recent_gets:,}"))
        facts.append((f"mean get, {recent}", _latency(figures.recent_get_seconds, figures.recent_gets)))
    return (
        f'<section class="au-card" data-tier="{state.tier}">'
        f'<h3 class="au-name"><b class="au-{state.tier}">{state.tier}</b> {escape(state.tier.label)}</h3>'
        f'<p class="au-big">{units.size(state.used_bytes)}<small> {capacity}</small></p>{bar}'
        f"<dl>{''.join(f'<dt>{term}</dt><dd>{fact}</dd>' for term, fact in facts)}</dl></section>"
    )


_BAR = '<div class="au-bar"><i style="width:{:.1%}"></i></div>'
_NO_BAR = '<div class="au-bar au-open"></div>'


def _latency(seconds: float | None, gets: int) -> str:
    if gets <= 0:
        return "no get"
    return "none timed" if seconds is None else f"{units.significant(1e6 * seconds / gets)} µs"


def link(text: str, address: str | None) -> str:
    """A link that opens beside the page; the text alone without an address."""
    if address is None:
        return escape(text)
    return f'<a href="{escape(address)}" target="_blank" rel="noopener">{escape(text)}</a>'


def tier_chips(tier_bytes: Mapping[Tier, int]) -> str:
    """A chip with the bytes on each tier."""
    return "".join(f'<b class="au-chip au-{tier}">{tier} {units.size(held)}</b>' for tier, held in tier_bytes.items())


def remedy(title: str, message: str, *, alarm: bool = True) -> str:
    """A panel for what is not there: what is missing, and what to do. No alarm: nothing is wrong."""
    kind = 'au-remedy" role="alert' if alarm else "au-remedy au-waiting"
    return f'<div class="{kind}"><b>{escape(title)}</b><p>{_code(message)}</p></div>'


def hits(found: Sequence[Hit], previews: Sequence[Preview]) -> str:
    """What was found, the nearest first, each with its preview."""
    lines = "".join(
        f'<tr><td class="au-c-cosine" data-label="cosine">{hit.score:.3f}</td>'
        f'<td class="au-c-preview" data-label="preview">{shown.html()}</td>'
        f'<td data-label="label">{escape(hit.label or "")}</td>'
        f'<td data-label="item">{escape(hit.source)}{line(escape(hit.uri))}</td></tr>'
        for hit, shown in zip(found, previews, strict=True)
    )
    heads = "".join(f'<th class="{_slug(name)}">{name}</th>' for name in ("cosine", "preview", "label", "item"))
    return f'<table class="au-table au-hits"><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>'


def alert_table(records: Iterable[TailRecord], now: datetime) -> str:
    """One line per alert, the latest first."""
    lines: list[list[Cell]] = []
    for record in records:
        data = record.data
        told = data if isinstance(data, str) else ", ".join(f"{name}: {value}" for name, value in data.items())
        lines.append(
            [
                ("when", units.age(record.time, now)),
                ("what", f"<b>{escape(record.kind)}</b>{line(escape(record.key))}"),
                ("details", escape(told if len(told) <= DETAILS else f"{told[:DETAILS]} ...")),
            ]
        )
    return table(lines)


def topic_table(topics: Iterable[TopicFigures], now: datetime) -> str:
    """One line per topic of the event log."""
    lines = []
    for topic in topics:
        lag = "".join(line(f"{escape(group)}: {behind:,}") for group, behind in topic.lag.items())
        latest = faint("none yet") if topic.latest_at is None else units.age(topic.latest_at, now)
        dead = f'<span class="au-state au-late">{topic.dead:,}</span>' if topic.dead else "0"
        partitions = "1 partition" if topic.partitions == 1 else f"{topic.partitions} partitions"
        cells: list[Cell] = [
            ("topic", f"<b>{escape(topic.name)}</b>{line(partitions)}"),
            ("records kept", f"{topic.records:,}{line(f'{topic.published:,} ever published')}"),
            ("latest event", latest),
            ("lag", lag or faint("no reader has committed")),
            ("dead letters", dead),
            ("retention", units.span(topic.retention)),
        ]
        lines.append(cells)
    return table(lines)


def service_table(report: Report) -> str:
    """One line per service: what was asked, what it answered, what to do, what else is affected."""
    return table([_service_cells(service) for service in report.services])


def _service_cells(service: Service) -> list[Cell]:
    finding = service.finding
    probe = finding.probe
    state = {State.OK: "fresh", State.FAILED: "late"}.get(finding.state, "")
    word = finding.state.value.replace("_", " ")
    took = "" if finding.seconds is None else f"{units.significant(1e3 * finding.seconds)} ms"
    failed = finding.state is State.FAILED
    told = f'<em class="au-alarm">{escape(finding.error or "")}</em>' if failed else escape(finding.version or "")
    remedy = line(f"Remedy: {_code(probe.remedy)}") if failed else ""
    affected = "".join(line(escape(f"{each.service} {each.severity}: {each.effect}")) for each in service.when_down)
    return [
        ("service", f"<b>{escape(service.name)}</b>{line(escape(probe.address or ''))}"),
        ("state", f'<span class="au-state au-{state}">{word}</span>{line(took)}'),
        ("asked", escape(probe.operation) or faint(escape(probe.absent or ""))),
        ("answer", told + remedy),
        ("affected when it is down", affected or faint("nothing else")),
    ]


def load_tiles(load: Load) -> str:
    """The load of the machine now."""
    disk = "the system does not say"
    if load.disk_read_rate is not None and load.disk_write_rate is not None:
        disk = f"{units.size(load.disk_read_rate)}/s read"
    tiles = [
        tile("processor", f"{100 * load.processor:.0f} %", f"of {load.cores} cores"),
        tile("memory", units.size(load.memory_used_bytes), f"of {units.size(load.memory_bytes)}"),
        tile("disk", _rate(load.disk_write_rate), f"written; {disk}"),
        tile("network", _rate(load.network_in_rate), f"in; {units.size(load.network_out_rate)}/s out"),
    ]
    return f'<div class="au-tiles">{"".join(tiles)}</div>'


def _rate(rate: float | None) -> str:
    return "unavailable" if rate is None else f"{units.size(rate)}/s"


def table(lines: Sequence[Sequence[Cell]]) -> str:
    """A table whose lines are cards on a narrow screen; every line has the same headings."""
    heads = "".join(f'<th class="{_slug(name)}">{name}</th>' for name, _ in lines[0])
    body = "".join(
        "<tr>" + "".join(f'<td class="{_slug(name)}" data-label="{name}">{html}</td>' for name, html in line) + "</tr>"
        for line in lines
    )
    return f'<table class="au-table"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'


def value_tiers(values: Sequence[StoredValue]) -> str:
    """Which tier holds the bytes of each published value, the largest first."""
    lines: list[list[Cell]] = [
        [
            ("value", f"<b>{escape(value.name)}</b>{line(escape(value.partition or 'whole machine'))}"),
            ("size", units.size(value.bytes)),
            ("published", f"{value.published_at:%Y-%m-%d %H:%M} UTC"),
            ("tiers", tier_chips(value.tier_bytes)),
        ]
        for value in sorted(values, key=lambda value: -value.bytes)
    ]
    return table(lines)


def verdict(about: str, headline: str, sentence: str, state: str) -> str:
    """A decision: what it is about, what was decided, and why; the state is "fresh", "late" for an alarm, or ""."""
    return (
        f'<div class="au-card"><h3 class="au-name"><span class="au-state au-{state}">{escape(about)}</span></h3>'
        f'<p class="au-big">{escape(headline)}</p><p class="au-note">{escape(sentence)}</p></div>'
    )


def outcome_panel(title: str, message: str) -> str:
    """A panel for what has been done."""
    return f'<div class="au-remedy au-done" role="status"><b>{escape(title)}</b><p>{escape(message)}</p></div>'


def heading(partition: str | None) -> str:
    """The name of a partition above its assets, one level below a section (h2) of a page or of the report."""
    if partition is None:
        return '<h3 class="au-part">whole machine</h3>'
    return f'<h3 class="au-part"><small>source</small> {escape(partition)}</h3>'


def note(text: str) -> str:
    """A line in small print, with what stands between backquotes as code."""
    return f'<p class="au-note">{_code(text)}</p>'


def _code(message: str) -> str:
    """Escaped, with what stands between backquotes as code."""
    return "".join(
        f"<code>{escape(part)}</code>" if index % 2 else escape(part) for index, part in enumerate(message.split("`"))
    )


def tile(label: str, value: str, detail: str) -> str:
    """A figure in large type, what it is above it and more of it below."""
    return (
        f'<div class="au-tile"><span>{escape(label)}</span><b>{escape(value)}</b><small>{escape(detail)}</small></div>'
    )


def faint(text: str) -> str:
    """What stands where there is no figure."""
    return f'<span class="au-faint">{escape(text)}</span>'


def line(text: str) -> str:
    """HTML on a line of its own in small print, below what stands before it; nothing of nothing."""
    return f"<small>{text}</small>" if text else ""


def _slug(name: str) -> str:
    return f"au-c-{name.replace(' ', '-').lower()}"
