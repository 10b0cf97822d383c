"""A sensor reads on from its cursor, and what cannot be decoded goes to the dead letters once."""

from __future__ import annotations

from events_samples import corpus_event, own_topic

from sensors.cursors import cursor_at, read_on


def source_of(record):
    return record.event.data["source"]


def test_reading_goes_on_from_the_cursor_and_begins_anew_where_it_is_of_another_log(adapter):
    topic, registry = own_topic()
    log = adapter.open(registry)
    log.publish(topic.name, [corpus_event("a", 0)])
    first, _ = read_on(log, topic.name, None, source_of, group="g")
    dealt_with = first.of(())
    log.publish(topic.name, [corpus_event("b", 0)])
    place = log.identity(topic.name)
    for cursor, found in (
        (cursor_at(place, dealt_with), {"b"}),
        (cursor_at("another", dealt_with), {"a", "b"}),
        (f"{place}\nno scan", {"a", "b"}),
        (None, {"a", "b"}),
    ):
        scan, buried = read_on(log, topic.name, cursor, source_of, group="g")
        assert scan.found.keys() == found
        assert buried == 0


def test_what_cannot_be_decoded_goes_to_the_dead_letters_by_one_id_and_holds_nothing_up(adapter):
    topic, registry = own_topic(partitions=1)
    log = adapter.open(registry)
    log.publish(topic.name, [corpus_event("a", 0)])
    adapter.put(topic.name, 0, b"\x00\xff")
    log.publish(topic.name, [corpus_event("b", 0)])
    for _ in range(2):
        scan, buried = read_on(log, topic.name, None, source_of, group="g")
        assert scan.found.keys() == {"a", "b"}
        assert buried == 1
    letters = [record.event for record in log.read(topic.dead.name, 0, 0).records]
    assert len({letter.id for letter in letters}) == 1
    assert {(letter.data["group"], letter.data["offset"]) for letter in letters} == {("g", 1)}
