"""The commands `aura events`: look at topics, publish by hand, read again, see who lags, expire, read models.

Belongs here: options, tables and JSON lines. Does not: what is done (the rest of `aura.events`).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aura.events.errors import EventError, OutboxFailedError, UnknownTopicError
from aura.events.topics import TOPICS
from aura.terminal import AsJsonLines, Tell, completing, print_json_lines, working

if TYPE_CHECKING:
    from aura.events.consumer import Step
    from aura.events.event import Event, Poison, Record
    from aura.events.log import EventLog
    from aura.events.projections import Projection, ReadModels

app = typer.Typer(no_args_is_help=True, help="The event log: Kafka if events.kafka is set, else the embedded one.")


def _known(topic: str | None) -> str | None:
    """The name of a topic that there is."""
    if topic is not None:
        try:
            TOPICS.get(topic)
        except UnknownTopicError as error:
            raise typer.BadParameter(str(error)) from error
    return topic


def _read_models() -> Iterable[str]:
    from aura.events.projections import PROJECTIONS

    return PROJECTIONS


def _groups() -> Iterable[str]:
    from aura.events.projections import PROJECTIONS

    return [each.group for each in PROJECTIONS.values()]


_complete_topic = completing(lambda: [topic.name for topic in TOPICS.all()])
TopicName = Annotated[
    str,
    typer.Argument(
        callback=_known,
        autocompletion=_complete_topic,
        help="Name of the topic, e.g. corpus.items or corpus.items.dead.",
    ),
]
POLL_SECONDS = 0.5
SHOWN = 100
"""Characters of the data in a table."""


@contextmanager
def _opened() -> Iterator[EventLog]:
    from aura.events.opening import open_event_log
    from aura.settings import load_settings

    log = open_event_log(load_settings())
    try:
        yield log
    finally:
        log.close()


@app.command()
def tail(
    topic: TopicName,
    *,
    count: Annotated[int, typer.Option("--count", "-n", min=0, help="Latest records shown of each partition.")] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what arrives, until interrupted.")] = False,
    as_json: AsJsonLines = False,
) -> None:
    """Print the latest records of a topic, and with --follow those that arrive.

    For example `aura events tail corpus.items -n 3`, or `aura events tail alerts --follow --json`.
    """
    with _opened() as log:
        begins, ends = log.begin_offsets(topic), log.end_offsets(topic)
        positions = {partition: max(begins[partition], end - count) for partition, end in ends.items()}
        _show(_read(log, topic, positions, ends), as_json=as_json)
        while follow:
            time.sleep(POLL_SECONDS)
            new = log.end_offsets(topic)
            if new != ends:
                _show(_read(log, topic, ends, new), as_json=as_json)
                ends = new


@app.command()
def replay(
    topic: TopicName,
    *,
    partition: Annotated[int | None, typer.Option(help="Only this partition.")] = None,
    offset: Annotated[int, typer.Option(min=0, help="From this offset.")] = 0,
    until: Annotated[int | None, typer.Option(min=0, help="Up to this offset, not included.")] = None,
    since: Annotated[
        datetime | None, typer.Option(help="From this time, UTC.", formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])
    ] = None,
    as_json: AsJsonLines = False,
) -> None:
    """Print a topic again from an offset or a time; changes nothing for anybody.

    For example `aura events replay corpus.items --since 2026-11-01 --json`.
    """
    if since is not None and offset:
        raise typer.BadParameter("--offset and --since are two ways to say where to begin: give one.")
    with _opened() as log:
        begins, ends = log.begin_offsets(topic), log.end_offsets(topic)
        starts = {each: max(offset, begin) for each, begin in begins.items()}
        if since is not None:
            starts = log.offsets_at(topic, since.replace(tzinfo=UTC))
        chosen = ends if partition is None else [partition]
        missing = [each for each in chosen if each not in ends]
        if missing:
            raise typer.BadParameter(f"{topic} has the partitions 0 to {len(ends) - 1}, not {missing[0]}.")
        stops = {each: ends[each] if until is None else min(until, ends[each]) for each in chosen}
        _show(_read(log, topic, starts, stops), as_json=as_json)


@app.command()
def publish(
    topic: TopicName,
    data: Annotated[str, typer.Argument(help="The data as a JSON object; - reads one object per line from the input.")],
    *,
    key: Annotated[str, typer.Option(help="Events with the same key keep their order.")],
    kind: Annotated[str | None, typer.Option("--type", help="Event type (none: the topic's only one).")] = None,
    source: Annotated[str, typer.Option(help="Who says so.")] = "aura/cli",
    event_id: Annotated[
        str | None, typer.Option("--id", help="Id of the event (none: a new one); the same id is kept once.")
    ] = None,
    as_json: AsJsonLines = False,
) -> None:
    """Publish events, checked against their schema; prints where they are once they are durable.

    For example `aura events publish alerts '{"alert": "disk", "reason": "full"}' --key disk --type alerts.resolved`.
    """
    texts = [line for line in sys.stdin if line.strip()] if data == "-" else [data]
    if event_id is not None and len(texts) != 1:
        raise typer.BadParameter(f"--id names one event, but {len(texts)} were given.")
    with _opened() as log:
        types = log.registry.get(topic).types
        if kind is None and len(types) != 1:
            raise typer.BadParameter(f"{topic} takes several types: give --type {' or --type '.join(types)}.")
        events = [_event(text, kind or types[0], key=key, source=source, event_id=event_id) for text in texts]
        rows = [
            {"topic": ack.topic, "partition": ack.partition, "offset": ack.offset, "id": event.id}
            for event, ack in zip(events, log.publish(topic, events), strict=True)
        ]
    if as_json:
        print_json_lines(rows)
        return
    waiting = sum(row["offset"] is None for row in rows)
    _print_table(["topic", "partition", "offset", "id"], rows)
    if waiting:
        typer.echo(f"{waiting} events wait in the outbox: Kafka is down. They are sent when it is back.", err=True)


@app.command()
def lag(
    group: Annotated[str, typer.Argument(autocompletion=completing(_groups), help="Consumer group.")],
    *,
    topic: Annotated[
        str | None,
        typer.Option(
            callback=_known,
            autocompletion=_complete_topic,
            help="Only this topic (none: every topic that the group reads).",
        ),
    ] = None,
    as_json: AsJsonLines = False,
) -> None:
    """Print how far a group is behind the end of each partition.

    For example `aura events lag projection.corpus_state --topic corpus.items`.
    """
    rows: list[dict[str, Any]] = []
    with _opened() as log:
        names = [topic] if topic else [each.name for each in log.registry.all()]
        for name in names:
            committed = log.committed(group, name)
            if not committed and topic is None:
                continue
            ends, lags = log.end_offsets(name), log.lag(group, name)
            rows += [
                {"topic": name, "partition": p, "committed": committed.get(p), "end": ends[p], "lag": lags[p]}
                for p in ends
            ]
        waiting = _waiting(log)
    if as_json:
        print_json_lines(rows)
    elif rows:
        _print_table(["topic", "partition", "committed", "end", "lag"], rows)
    else:
        typer.echo(f"The group {group} has committed nothing.")
    if waiting:
        typer.echo(f"{waiting} events wait in the outbox of this machine.", err=True)


def _waiting(log: EventLog) -> int:
    """Events in the outbox, if the log has one; an outbox that fails is said, and stops nobody who reads."""
    try:
        return int(getattr(log, "waiting", 0))
    except OutboxFailedError as error:
        typer.echo(str(error), err=True)
        return 0


@app.command()
def expire(
    topic: Annotated[
        str | None,
        typer.Argument(callback=_known, autocompletion=_complete_topic, help="Only this topic (none: every topic)."),
    ] = None,
    *,
    as_json: AsJsonLines = False,
) -> None:
    """Delete the records at the front of the embedded log that are older than their topic's retention.

    For example `aura events expire memory.operations`.
    """
    from aura.settings import load_settings

    if load_settings().events.kafka is not None:
        typer.echo("Nothing to do: on Kafka the broker deletes by each topic's retention.ms.", err=True)
        return
    rows: list[dict[str, Any]] = []
    with _opened() as log:
        for each in [log.registry.get(topic)] if topic else log.registry.all():
            before, after = log.begin_offsets(each.name), log.expire(each.name, datetime.now(UTC))
            rows += [
                {
                    "topic": each.name,
                    "partition": partition,
                    "older_than_days": each.retention.days,
                    "deleted": after[partition] - begin,
                    "begins": after[partition],
                }
                for partition, begin in before.items()
            ]
    if as_json:
        print_json_lines(rows)
        return
    if shown := [row for row in rows if row["deleted"]]:
        _print_table(list(shown[0]), shown)
    typer.echo(f"{sum(row['deleted'] for row in rows)} records were deleted.")


ModelName = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODEL]",
        autocompletion=completing(_read_models),
        help="Only this read model (none: all of them).",
    ),
]


@app.command()
def models(model: ModelName = None, *, as_json: AsJsonLines = False) -> None:
    """Bring the read models up to the end of the log, and print the digest of each.

    For example `aura events models open_alerts`.
    """
    rows: list[dict[str, Any]] = []
    with _models(model) as (log, opened, chosen), working("Reading ...") as tell:
        for each in chosen:
            said = f"{each.name} reads {each.topic} ..."
            step = opened.catch_up(each.name, _steps(tell, said, log.lag(each.group, each.topic)))
            behind = sum(log.lag(each.group, each.topic).values())
            rows.append({"model": each.name, "topic": each.topic, "applied": step.applied, "behind": behind,
                         "digest": opened.digest(each.name)})  # fmt: skip
    _print_rows(rows, as_json=as_json)


@app.command()
def rebuild(model: ModelName = None, *, as_json: AsJsonLines = False) -> None:
    """Build the read models anew from the first offset, and say whether they are what they were.

    They are the same unless retention deleted records that they were built from, or events arrive meanwhile.
    For example `aura events rebuild corpus_state`.
    """
    from aura.events.log import lag_of

    rows: list[dict[str, Any]] = []
    with _models(model) as (log, opened, chosen), working("Reading ...") as tell:
        for each in chosen:
            said = f"{each.name} reads {each.topic} ..."
            opened.catch_up(each.name, _steps(tell, said, log.lag(each.group, each.topic)))
            before = opened.digest(each.name)
            kept = lag_of(log.begin_offsets(each.topic), log.end_offsets(each.topic), {})
            step = opened.rebuild(each.name, _steps(tell, f"{each.name} is built from {each.topic} ...", kept))
            after = opened.digest(each.name)
            rows.append({"model": each.name, "applied": step.applied, "before": before, "after": after,
                         "same": before == after})  # fmt: skip
    _print_rows(rows, as_json=as_json)


def _steps(tell: Tell, said: str, records: Mapping[int, int]) -> Callable[[Step], None]:
    """What shows the steps of a model towards this many records of each partition."""
    there = max(1, sum(records.values()))
    tell(said, 0.0)
    return lambda done: tell(said, min(1.0, done.passed / there))


@contextmanager
def _models(name: str | None) -> Iterator[tuple[EventLog, ReadModels, list[Projection]]]:
    from aura.events.opening import open_read_models
    from aura.events.projections import PROJECTIONS
    from aura.settings import load_settings

    if name is not None and name not in PROJECTIONS:
        raise typer.BadParameter(f"There is no read model {name!r}. The models are: {', '.join(PROJECTIONS)}.")
    with _opened() as log:
        opened = open_read_models(load_settings(), log)
        try:
            yield log, opened, [PROJECTIONS[name]] if name else list(PROJECTIONS.values())
        finally:
            opened.close()


def _event(text: str, kind: str, *, key: str, source: str, event_id: str | None) -> Event:
    from aura.events.event import new_event
    from aura.events.schemas import packaged_schemas

    try:
        data = json.loads(text)
    except ValueError as error:
        raise EventError(f"{text.strip()[:SHOWN]!r} is not JSON: {error}") from error
    versions = packaged_schemas().versions().get(kind, [1])
    return new_event(kind, data, source=source, key=key, version=versions[-1], id=event_id)


def _read(log: EventLog, topic: str, starts: dict[int, int], stops: dict[int, int]) -> Iterator[Record | Poison]:
    """The records and the poison of ranges of partitions, each partition in order."""
    for partition, stop in stops.items():
        position = starts[partition]
        while position < stop:
            batch = log.read(topic, partition, position, stop)
            found: list[Record | Poison] = [*batch.records, *batch.poison]
            yield from sorted(found, key=lambda each: each.offset)
            position = batch.next_offset


def _show(found: Iterator[Record | Poison], *, as_json: bool) -> None:
    if as_json:
        print_json_lines(map(_row, found))
        return
    rows = [_row(each) for each in found]
    if rows:
        columns = ["partition", "offset", "time", "key", "type", "data"]
        _print_table(columns, [{**row, "data": json.dumps(row["data"], ensure_ascii=False)} for row in rows])


def _row(each: Record | Poison) -> dict[str, Any]:
    from aura.events.event import Poison, moment_at

    place = {"topic": each.topic, "partition": each.partition, "offset": each.offset}
    if isinstance(each, Poison):
        moment = moment_at(each.timestamp).isoformat()
        key = (each.key or b"").decode(errors="replace")
        return {**place, "time": moment, "key": key, "type": "(undecodable)", "data": each.reason}
    event = each.event
    return {
        **place,
        "time": event.time.isoformat(),
        "key": each.key,
        "type": event.type,
        "version": event.version,
        "source": event.source,
        "id": event.id,
        "subject": event.subject,
        "traceparent": event.traceparent,
        "data": event.data,
    }


def _print_rows(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json_lines(rows)
    else:
        _print_table(list(rows[0]), rows)


def _print_table(columns: list[str], rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*columns)
    for row in rows:
        texts = ["" if row[column] is None else str(row[column]) for column in columns]
        table.add_row(*(escape(text if len(text) <= SHOWN else text[: SHOWN - 1] + "…") for text in texts))
    Console().print(table)
