"""Figures as HTML, for the dashboard and the report.

Belongs here: text that is escaped, classes that `style.css` gives their look. Does not: pages, reading anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from urllib.parse import quote

from aura.measure.history import MaterializationCost
from aura.overview import units
from aura.overview.assets import FRESH_FOR, AssetRow, Freshness
from aura.overview.costs import ended_at, outcome
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


def overview(rows: Sequence[AssetRow], now: datetime) -> str:
    """The summary over all assets: freshness, what computing everything cost, energy by source.

    Values whose computation is not known, since all that is recorded took them over, have no part in the costs.
    """
    states = [row.freshness(now) for row in rows]
    limited = len(rows) - states.count(Freshness.NEVER) - states.count(Freshness.MADE)
    words = {
        Freshness.LATE: "late",
        Freshness.UNKNOWN: "unknown",
        Freshness.NEVER: "never",
        Freshness.MADE: "made by hand, without a limit",
    }
    others = [f"{states.count(state)} {word}" for state, word in words.items() if state in states]
    made = [row.computed for row in rows if row.computed is not None]
    costs = [cost for cost in made if not cost.reused]
    setbacks = [f"{_named(row)} {row.setback}" for row in rows if row.setback not in {None, "skipped"}]
    failed = [f"{_named(row)}: {name}" for row in rows for name, passed in row.checks.items() if not passed]
    checks = sum(len(row.checks) for row in rows)
    wall, cpu = sum(cost.wall_seconds for cost in costs), sum(cost.cpu_seconds for cost in costs)
    limit = f"limit {units.span(FRESH_FOR)}"
    unknown = [f"not known for {len(made) - len(costs)}"] if len(costs) < len(made) else []
    tiles = [
        _tile("fresh", f"{states.count(Freshness.FRESH)} of {limited}", " · ".join([limit, *others, *setbacks])),
        _tile("checks passed", f"{checks - len(failed)} of {checks}", ", ".join(failed) or "when last computed"),
        _tile(
            "computing it all took",
            units.seconds(wall) if costs else "unknown",
            ", ".join([f"{units.seconds(cpu)} of CPU time"] * bool(costs) + unknown) or "no computation is known",
        ),
        _tile("energy of that", *_energies(costs)),
    ]
    return f'<div class="au-tiles">{"".join(tiles)}</div>'


def _named(row: AssetRow) -> str:
    return row.asset if row.partition is None else f"{row.asset} of {row.partition}"


def _energies(costs: Iterable[MaterializationCost]) -> tuple[str, str]:
    totals: dict[str, float] = {}
    without = 0
    for cost in costs:
        if cost.joules is None:
            without += 1
        else:
            totals[cost.energy_source] = totals.get(cost.energy_source, 0.0) + cost.joules
    if not totals:
        return "unavailable", "no counter was read" if without else "no computation is known"
    shown = [f"{units.joules(total)} {source}" for source, total in sorted(totals.items())]
    rest = [*shown[1:], *([f"unavailable for {without}"] if without else [])]
    first, _, source = shown[0].rpartition(" ")
    return first, ", ".join([source, *rest])


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


@dataclass(frozen=True)
class Known:
    """Which sources answered."""

    costs: bool
    store: bool


def asset_table(rows: Iterable[AssetRow], now: datetime, dagster: str | None, known: Known) -> str:
    """One line per asset; on a narrow screen one card.

    Args:
        rows: The assets of one partition, at least one.
        now: The time that ages count to.
        dagster: Address of the Dagster UI, for links; None without.
        known: Without costs, their columns are left out.
    """
    return _table([_cells(row, now, dagster, known) for row in rows])


def _cells(row: AssetRow, now: datetime, dagster: str | None, known: Known) -> list[Cell]:
    link = _link(row.asset, dagster and f"{dagster}/assets/{quote(row.asset, safe='')}")
    rows = _faint("unknown") if row.rows is None else f"{row.rows:,}"
    return [
        ("asset", link + _line(escape(row.group))),
        *(_cost_cells(row, now) if known.costs else []),
        ("rows", rows),
        ("stored", _stored(row.stored, now, store_answers=known.store)),
        *([("checks", _checks(row.checks))] if known.costs else []),
    ]


def _link(text: str, address: str | None) -> str:
    """A link that opens beside the page; the text alone without an address."""
    if address is None:
        return escape(text)
    return f'<a href="{escape(address)}" target="_blank" rel="noopener">{escape(text)}</a>'


def _cost_cells(row: AssetRow, now: datetime) -> list[Cell]:
    cost = row.computed
    none = _faint("none")
    return [
        ("freshness", _freshness(row, now)),
        ("wall time", _wall(cost, row.reuse, now) if cost else none),
        ("CPU time", units.seconds(cost.cpu_seconds) if cost else none),
        ("peak memory", f"{cost.peak_memory_mib:,.0f} MiB" if cost else none),
        ("energy", _energy(cost) if cost else none),
    ]


def _freshness(row: AssetRow, now: datetime) -> str:
    state = row.freshness(now)
    none = "not materialized yet" if state is Freshness.NEVER else "made by no run that is known"
    when = none if row.succeeded_at is None else units.age(row.succeeded_at, now)
    setback = f'<em class="au-alarm">last run {escape(row.setback)}</em>' if row.setback else ""
    if row.setback == "skipped":
        setback = _line("last run skipped: nothing to make")
    reused = _line("reused") if row.reuse else ""
    if state is Freshness.MADE:
        when += ", by hand"
    return f'<span class="au-state au-{state}">{state}</span>{_line(when)}{reused}{setback}'


def _wall(cost: MaterializationCost, reuse: MaterializationCost | None, now: datetime) -> str:
    reused = _line(f"reuse took {units.seconds(reuse.wall_seconds)}") if reuse else ""
    verb = "reused" if cost.reused else "computed"
    return f"{units.seconds(cost.wall_seconds)}{_line(f'{verb} {units.age(ended_at(cost), now)}')}{reused}"


def _energy(cost: MaterializationCost) -> str:
    source = escape(cost.energy_source)
    return _faint(source) if cost.joules is None else f"{units.joules(cost.joules)}{_line(source)}"


def _stored(stored: StoredValue | None, now: datetime, *, store_answers: bool) -> str:
    if stored is None:
        return _faint("nothing published" if store_answers else "store not reached")
    published = _line(f"published {units.age(stored.published_at, now)}")
    return f"{units.size(stored.bytes)}<span>{_tier_chips(stored.tier_bytes)}</span>{published}"


def _tier_chips(tier_bytes: Mapping[Tier, int]) -> str:
    return "".join(f'<b class="au-chip au-{tier}">{tier} {units.size(held)}</b>' for tier, held in tier_bytes.items())


def _checks(checks: Mapping[str, bool]) -> str:
    if not checks:
        return _faint("none kept")
    failed = [name for name, passed in checks.items() if not passed]
    words = ", ".join(name.replace("_", " ") for name in failed or checks)
    mark = f'<span class="au-state au-late">{len(failed)} failed</span>' if failed else f"{len(checks)} passed"
    return f"{mark}{_line(escape(words))}"


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
        f'<td data-label="item">{escape(hit.source)}{_line(escape(hit.uri))}</td></tr>'
        for hit, shown in zip(found, previews, strict=True)
    )
    heads = "".join(f'<th class="{_slug(name)}">{name}</th>' for name in ("cosine", "preview", "label", "item"))
    return f'<table class="au-table au-hits"><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>'


def run_table(runs: Iterable[MaterializationCost], now: datetime, dagster: str | None) -> str:
    """One line per materialization, with its outcome and cost."""
    lines: list[list[Cell]] = []
    for run in runs:
        word = outcome(run)
        state = {"made": "fresh", "reused": "fresh", "skipped": ""}.get(word, "late")
        lines.append(
            [
                ("asset", f"<b>{escape(run.asset)}</b>{_line(escape(run.partition or 'whole machine'))}"),
                ("outcome", f'<span class="au-state au-{state}">{escape(word)}</span>'),
                ("ended", units.age(ended_at(run), now)),
                ("wall time", units.seconds(run.wall_seconds)),
                ("CPU time", units.seconds(run.cpu_seconds)),
                ("energy", _energy(run)),
                ("run", _link(run.run_id[:8], dagster and f"{dagster}/runs/{quote(run.run_id, safe='')}")),
            ]
        )
    return _table(lines)


def alert_table(records: Iterable[TailRecord], now: datetime) -> str:
    """One line per alert, the latest first."""
    lines: list[list[Cell]] = []
    for record in records:
        data = record.data
        told = data if isinstance(data, str) else ", ".join(f"{name}: {value}" for name, value in data.items())
        lines.append(
            [
                ("when", units.age(record.time, now)),
                ("what", f"<b>{escape(record.kind)}</b>{_line(escape(record.key))}"),
                ("details", escape(told[:DETAILS])),
            ]
        )
    return _table(lines)


def topic_table(topics: Iterable[TopicFigures], now: datetime) -> str:
    """One line per topic of the event log."""
    lines = []
    for topic in topics:
        lag = "".join(_line(f"{escape(group)}: {behind:,}") for group, behind in topic.lag.items())
        latest = _faint("none yet") if topic.latest_at is None else units.age(topic.latest_at, now)
        dead = f'<span class="au-state au-late">{topic.dead:,}</span>' if topic.dead else "0"
        cells: list[Cell] = [
            ("topic", f"<b>{escape(topic.name)}</b>{_line(f'{topic.partitions} partitions')}"),
            ("records kept", f"{topic.records:,}{_line(f'{topic.published:,} ever published')}"),
            ("latest event", latest),
            ("lag", lag or _faint("no reader has committed")),
            ("dead letters", dead),
            ("retention", units.span(topic.retention)),
        ]
        lines.append(cells)
    return _table(lines)


def service_table(report: Report) -> str:
    """One line per service: what was asked, what it answered, what to do, what else is affected."""
    return _table([_service_cells(service) for service in report.services])


def _service_cells(service: Service) -> list[Cell]:
    finding = service.finding
    probe = finding.probe
    state = {State.OK: "fresh", State.FAILED: "late"}.get(finding.state, "")
    word = finding.state.value.replace("_", " ")
    took = "" if finding.seconds is None else f"{units.significant(1e3 * finding.seconds)} ms"
    failed = finding.state is State.FAILED
    told = f'<em class="au-alarm">{escape(finding.error or "")}</em>' if failed else escape(finding.version or "")
    remedy = _line(f"Remedy: {_code(probe.remedy)}") if failed else ""
    affected = "".join(_line(escape(f"{each.service} {each.severity}: {each.effect}")) for each in service.when_down)
    return [
        ("service", f"<b>{escape(service.name)}</b>{_line(escape(probe.address or ''))}"),
        ("state", f'<span class="au-state au-{state}">{word}</span>{_line(took)}'),
        ("asked", escape(probe.operation) or _faint(escape(probe.absent or ""))),
        ("answer", told + remedy),
        ("affected when it is down", affected or _faint("nothing else")),
    ]


def load_tiles(load: Load) -> str:
    """The load of the machine now."""
    disk = "the system does not say"
    if load.disk_read_rate is not None and load.disk_write_rate is not None:
        disk = f"{units.size(load.disk_read_rate)}/s read"
    tiles = [
        _tile("processor", f"{100 * load.processor:.0f} %", f"of {load.cores} cores"),
        _tile("memory", units.size(load.memory_used_bytes), f"of {units.size(load.memory_bytes)}"),
        _tile("disk", _rate(load.disk_write_rate), f"written; {disk}"),
        _tile("network", _rate(load.network_in_rate), f"in; {units.size(load.network_out_rate)}/s out"),
    ]
    return f'<div class="au-tiles">{"".join(tiles)}</div>'


def _rate(rate: float | None) -> str:
    return "unavailable" if rate is None else f"{units.size(rate)}/s"


def _table(lines: Sequence[Sequence[Cell]]) -> str:
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
            ("value", f"<b>{escape(value.name)}</b>{_line(escape(value.partition or 'whole machine'))}"),
            ("size", units.size(value.bytes)),
            ("published", f"{value.published_at:%Y-%m-%d %H:%M} UTC"),
            ("tiers", _tier_chips(value.tier_bytes)),
        ]
        for value in sorted(values, key=lambda value: -value.bytes)
    ]
    return _table(lines)


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


def _tile(label: str, value: str, detail: str) -> str:
    return (
        f'<div class="au-tile"><span>{escape(label)}</span><b>{escape(value)}</b><small>{escape(detail)}</small></div>'
    )


def _faint(text: str) -> str:
    return f'<span class="au-faint">{escape(text)}</span>'


def _line(text: str) -> str:
    return f"<small>{text}</small>" if text else ""


def _slug(name: str) -> str:
    return f"au-c-{name.replace(' ', '-').lower()}"
