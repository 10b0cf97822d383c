"""The event log: topics, who is behind, the latest records, dead letters."""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from app.actions import confirm
from app.frame import EVENTS_EVERY_SECONDS, SEE_ABOVE, Frame, as_of, clock, draw_absence
from aura.events.errors import EventError
from aura.events.event import Event, new_event
from aura.events.opening import open_event_log
from aura.events.schemas import packaged_schemas
from aura.events.topics import DEAD, TOPICS
from aura.overview import markup
from aura.overview.event_log import TailRecord

TITLE = "Events"
SUBTITLE = "what has happened, and who knows"
ICON = ":material/bolt:"

TAIL = 50
"""Latest records that are listed."""

NAMES = tuple(topic.name for topic in TOPICS.all() if not topic.name.endswith(DEAD))
"""The topics, without those of dead letters."""


def draw(frame: Frame) -> None:
    """Draw the page."""
    st.header("Topics", anchor=False)
    frame.part(draw_topics, "topics", EVENTS_EVERY_SECONDS)
    st.header("Latest records", anchor=False)
    frame.part(draw_tail, "tail", EVENTS_EVERY_SECONDS)
    if not frame.settings.services.dashboard_read_only:
        st.header("Publish", anchor=False)
        draw_publish(frame)


def draw_topics(frame: Frame) -> None:
    """One line per topic."""
    topics = frame.topics()
    draw_absence(topics, "The event log is not known", frame.event_log)
    if topics.value is not None:
        st.html(markup.note(f"{as_of(topics)} Lag is what a consumer has not committed."))
        st.html(markup.topic_table(topics.value, topics.taken_at))


def draw_tail(frame: Frame) -> None:
    """The latest records of the topic that the visitor chose."""
    if frame.topics().value is None:
        st.html(markup.note(SEE_ABOVE))
        return
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        topic = st.selectbox("Topic", NAMES, key="topic")
        dead = st.toggle("Dead letters", key="dead", help="What could not be processed, with the reason.")
    name = topic + DEAD if dead else topic
    # One more than is listed, which tells whether there are more.
    tail = frame.tail(name, TAIL + 1)
    draw_absence(tail, f"{name} cannot be read", frame.event_log)
    if tail.value is None:
        return
    since = frame.since()
    records = [record for record in tail.value if since is None or record.time >= since]
    none = "" if records else " No record within the time window."
    left_out = f" Only the latest {TAIL} are listed." if len(records) > TAIL else ""
    st.html(markup.note(f"{as_of(tail)}{none}{left_out}"))
    if records:
        st.dataframe([_row(record) for record in records[:TAIL]], hide_index=True)


def _row(record: TailRecord) -> dict[str, object]:
    data = record.data if isinstance(record.data, str) else json.dumps(record.data, ensure_ascii=False)
    return {
        "time": clock(record.time),
        "partition": record.partition,
        "offset": record.offset,
        "key": record.key,
        "type": record.kind,
        "data": data,
    }


def draw_publish(frame: Frame) -> None:
    """The topic and type of one event, and a form for what is in it."""
    with st.container(horizontal=True, gap="small"):
        topic = st.selectbox("Topic", NAMES, key="to")
        kind = st.selectbox("Type", TOPICS.get(topic).types, key=f"type-of-{topic}")
    version = packaged_schemas().versions()[kind][-1]
    schema = packaged_schemas().load(kind, version)
    example = json.dumps(schema["examples"][0], ensure_ascii=False)
    st.html(markup.note(f"{schema['description']} Such as:"))
    st.code(example, language="json", wrap_lines=True)
    with st.form("publish", border=True):
        key = st.text_input("Key", placeholder="events with the same key keep their order", key="event-key")
        data = st.text_area("Data, a JSON object", key="event-data")
        if not st.form_submit_button("Publish ..."):
            return

    def publish() -> str:
        found = _payload(data, example)
        event = new_event(kind, found, source="aura/dashboard", key=key or "dashboard", version=version)
        return _publish(frame, topic, event)

    confirm(f"Publish an event of the type `{kind}` on `{topic}`? Whoever listens acts on it.", publish)


def _payload(data: str, example: str) -> dict[str, Any]:
    try:
        payload = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise EventError(f"the data is not a JSON object such as {example}: {error}") from error
    if not isinstance(payload, dict):
        raise EventError(f"the data is {data[:80]!r}; give a JSON object such as {example}")
    return payload


def _publish(frame: Frame, topic: str, event: Event) -> str:
    log = open_event_log(frame.settings)
    try:
        ack = log.publish(topic, [event])[0]
    finally:
        log.close()
    place = "waits in the outbox" if ack.offset is None else f"is durable at {ack.partition}/{ack.offset}"
    return f"Event {event.id} {place}."
