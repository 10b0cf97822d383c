"""Read models follow the log, and are the same when they are built again from its beginning."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from events_samples import START

from aura.events.event import new_event
from aura.events.projections import PROJECTIONS, ReadModels
from aura.events.sqlite_log import SqliteEventLog


@pytest.fixture
def log(tmp_path):
    log = SqliteEventLog(tmp_path / "log.db")
    yield log
    log.close()


@pytest.fixture
def models(log, tmp_path):
    models = ReadModels(log, tmp_path / "models.db", owner="tests")
    yield models
    models.close()


def event(kind, key, number, data):
    return new_event(kind, data, source="tests", key=key, id=f"{kind}-{number}", time=START + timedelta(seconds=number))


def corpus(number, source, changed=(), removed=()):
    data = {"source": source, "changed": list(changed), "removed": list(removed)}
    return event("corpus.items.changed", source, number, data)


def test_the_corpus_model_holds_the_latest_state_of_each_item(log, models):
    log.publish("corpus.items", [corpus(1, "a", ["x", "y"]), corpus(2, "b", ["x"]), corpus(3, "a", ["x"], ["y"])])
    models.catch_up("corpus_state")
    assert [(row["source"], row["item"], row["state"]) for row in models.rows("corpus_item")] == [
        ("a", "x", "present"),
        ("a", "y", "removed"),
        ("b", "x", "present"),
    ]
    (first, second) = models.rows("corpus_source")
    assert (first["source"], first["events"], first["changed"], first["removed"]) == ("a", 2, 3, 1)
    assert second["at"] == (START + timedelta(seconds=2)).isoformat()


def test_a_model_of_a_log_that_was_made_anew_holds_nothing_of_the_old_one(log, tmp_path):
    log.publish("corpus.items", [corpus(1, "a", ["x", "y"])])
    anew = SqliteEventLog(tmp_path / "anew.db")
    anew.publish("corpus.items", [corpus(1, "a", ["x", "y"]), corpus(2, "c", ["z"])])
    digests = []
    for each in (log, anew, anew):
        models = ReadModels(each, tmp_path / "models.db", owner="tests")
        models.catch_up("corpus_state")
        digests.append(models.digest("corpus_state"))
        found = [(row["source"], row["item"]) for row in models.rows("corpus_item")]
        events = {row["source"]: row["events"] for row in models.rows("corpus_source")}
        models.close()
    assert found == [("a", "x"), ("a", "y"), ("c", "z")]
    assert events == {"a": 1, "c": 1}
    assert digests[0] != digests[1] == digests[2]
    anew.close()


def operations(number, *rows):
    names = ("key", "tier", "gets", "puts", "promotions", "demotions")
    counts = [dict(zip(names, row, strict=True)) for row in rows]
    window = {"started": START.isoformat(), "ended": (START + timedelta(seconds=10)).isoformat()}
    return event("memory.operations.counted", f"owner-{number % 3}", number, {**window, "counts": counts})


def test_the_tier_model_takes_a_count_that_is_left_out_for_none(log, models):
    window = {"started": START.isoformat(), "ended": START.isoformat()}
    counts = [{"key": "k", "tier": "L3", "gets": 4}]
    log.publish("memory.operations", [event("memory.operations.counted", "owner", 1, {**window, "counts": counts})])
    models.catch_up("tier_operations")
    assert [(row["gets"], row["puts"]) for row in models.rows("tier_operations")] == [(4, 0)]


def test_the_tier_model_adds_up_the_operations(log, models):
    log.publish("memory.operations", [operations(1, ("k", "L1", 5, 1, 0, 0), ("k", "L3", 2, 0, 0, 1))])
    models.catch_up("tier_operations")
    log.publish("memory.operations", [operations(2, ("m", "L1", 1, 0, 3, 0))])
    models.catch_up("tier_operations")
    assert models.rows("tier_operations") == [
        {"tier": "L1", "gets": 6, "puts": 1, "promotions": 3, "demotions": 0},
        {"tier": "L3", "gets": 2, "puts": 0, "promotions": 0, "demotions": 1},
    ]


def alert(number, name, severity="warning"):
    data = {"alert": name, "severity": severity, "failed": f"{name} failed", "remedy": "look", "partition": "p"}
    return event("alerts.raised", name, number, data)


def resolved(number, name):
    return event("alerts.resolved", name, number, {"alert": name, "reason": "works again"})


def test_the_alerts_that_are_open_are_those_raised_and_not_resolved_since(log, models):
    log.publish("alerts", [alert(1, "a"), alert(2, "b"), alert(3, "a", "critical"), resolved(4, "b"), alert(5, "c")])
    log.publish("alerts", [resolved(6, "c"), alert(7, "c")])
    models.catch_up("open_alerts")
    rows = models.rows("open_alert")
    assert [(row["alert"], row["severity"], row["times"]) for row in rows] == [
        ("a", "critical", 2),
        ("c", "warning", 1),
    ]
    assert rows[0]["first_at"] < rows[0]["last_at"]
    assert rows[0]["partition_key"] == "p"


@pytest.mark.parametrize("name", sorted(PROJECTIONS))
def test_a_model_built_step_by_step_equals_the_one_built_anew(log, models, name, tmp_path):
    chance = random.Random(7)
    publish = {
        "corpus_state": lambda n: (
            "corpus.items",
            corpus(n, f"s{n % 5}", [f"i{chance.randrange(20)}"], [f"i{chance.randrange(20, 30)}"]),
        ),
        "tier_operations": lambda n: (
            "memory.operations",
            operations(n, ("k", f"L{chance.randrange(4)}", *(chance.randrange(9) for _ in range(4)))),
        ),
        "open_alerts": lambda n: ("alerts", chance.choice([alert, resolved])(n, f"a{chance.randrange(10)}")),
    }[name]
    empty = models.digest(name)
    for number in range(150):
        topic, each = publish(number)
        log.publish(topic, [each])
        if chance.random() < 0.1:
            models.catch_up(name)
    models.catch_up(name)
    step_by_step = models.digest(name)
    assert step_by_step != empty
    told = []
    models.rebuild(name, lambda done: told.append(done.passed))
    assert models.digest(name) == step_by_step
    assert told == sorted(told)
    assert told[-1] == 150
    elsewhere = ReadModels(log, tmp_path / "elsewhere.db", owner="elsewhere")
    elsewhere.catch_up(name)
    assert elsewhere.digest(name) == step_by_step
    elsewhere.close()


def test_an_unknown_table_is_named(models):
    with pytest.raises(KeyError, match=r"no table 'nothing'; the models have: corpus_item"):
        models.rows("nothing")
