"""The commands `aura events` show and publish real events, and say plainly what is wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import sqlite3
import sys
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from aura.cli import main
from aura.events.event import new_event
from aura.events.sqlite_log import SqliteEventLog


@dataclass
class Run:
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def events(tmp_path, monkeypatch, capsys):
    """Runs `aura events ...` with a home of the test's own."""
    monkeypatch.setenv("AURA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)

    def run(*arguments, given="", **variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["aura", "events", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(given))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Run(ended.value.code or 0, said.out, said.err)

    return run


def lines(run):
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def item(name):
    return json.dumps({"source": "s", "changed": [name], "removed": []})


def test_what_is_published_is_shown_by_tail_and_replay(events):
    (ack,) = lines(events("publish", "corpus.items", item("x"), "--key", "s", "--json"))
    assert ack["offset"] == 0
    more = events("publish", "corpus.items", "-", "--key", "s", given=f"{item('y')}\n\n{item('z')}\n")
    assert more.returncode == 0, more.stderr
    shown = lines(events("tail", "corpus.items", "-n", "2", "--json"))
    assert [row["data"]["changed"] for row in shown] == [["y"], ["z"]]
    again = lines(events("replay", "corpus.items", "--partition", str(ack["partition"]), "--until", "2", "--json"))
    assert [row["offset"] for row in again] == [0, 1]
    assert again[0]["id"] == ack["id"]
    assert lines(events("replay", "corpus.items", "--since", "2100-01-01", "--json")) == []
    table = events("tail", "corpus.items").stdout
    assert "corpus.items.changed" in table
    assert '{"source": "s", "changed": ["z"], "removed": []}' in table


def test_the_same_id_is_kept_once(events):
    for _ in range(2):
        (ack,) = lines(events("publish", "corpus.items", item("x"), "--key", "s", "--id", "one", "--json"))
        assert ack["offset"] == 0


def test_lag_of_a_group_is_shown(events, tmp_path):
    lines(events("publish", "alerts", "-", "--key", "a", "--type", "alerts.resolved", "--json",
                 given='{"alert": "a", "reason": "r"}\n' * 3))  # fmt: skip
    assert "committed nothing" in events("lag", "watchers").stdout
    (row,) = lines(events("lag", "watchers", "--topic", "alerts", "--json"))
    assert row == {"topic": "alerts", "partition": 0, "committed": None, "end": 3, "lag": 3}


def test_records_older_than_the_retention_are_deleted_by_expire(events, tmp_path):
    old = new_event(
        "memory.operations.counted",
        {"started": "2020-01-01T00:00:00+00:00", "ended": "2020-01-01T00:00:10+00:00", "counts": []},
        source="tests",
        key="o",
        time=datetime(2020, 1, 1, tzinfo=UTC),
    )
    log = SqliteEventLog(tmp_path / "home" / "events" / "log.db")
    log.publish(
        "memory.operations",
        [old, dataclasses.replace(old, id="two"), dataclasses.replace(old, id="new", time=datetime.now(UTC))],
    )
    log.close()
    lines(events("publish", "corpus.items", item("x"), "--key", "s", "--json"))
    rows = lines(events("expire", "memory.operations", "--json"))
    expected = {"topic": "memory.operations", "partition": 0, "older_than_days": 7, "deleted": 2, "begins": 2}
    assert rows == [expected]
    assert [row["offset"] for row in lines(events("tail", "memory.operations", "--json"))] == [2]
    everything = lines(events("expire", "--json"))
    assert len(everything) > 6
    assert {row["deleted"] for row in everything} == {0}
    assert "0 records were deleted" in events("expire").stdout
    on_kafka = events("expire", AURA_EVENTS__KAFKA="127.0.0.1:1")
    assert on_kafka.returncode == 0
    assert "the broker deletes" in on_kafka.stderr


def test_read_models_are_caught_up_and_the_same_when_built_anew(events):
    lines(events("publish", "corpus.items", "-", "--key", "s", "--json", given=f"{item('x')}\n{item('y')}\n"))
    first = {row["model"]: row for row in lines(events("models", "--json"))}
    assert set(first) == {"corpus_state", "tier_operations", "open_alerts"}
    assert (first["corpus_state"]["applied"], first["corpus_state"]["behind"]) == (2, 0)
    again = lines(events("rebuild", "corpus_state", "--json"))
    digest = first["corpus_state"]["digest"]
    assert again == [{"model": "corpus_state", "applied": 2, "before": digest, "after": digest, "same": True}]
    lines(events("publish", "corpus.items", item("z"), "--key", "s", "--json"))
    (later,) = lines(events("models", "corpus_state", "--json"))
    assert later["applied"] == 1
    assert later["digest"] != digest
    assert "open_alerts" in events("rebuild").stdout


def test_a_model_that_is_not_what_the_log_says_is_told_by_rebuild(events, tmp_path):
    lines(events("publish", "corpus.items", item("x"), "--key", "s", "--json"))
    lines(events("models", "--json"))
    with contextlib.closing(sqlite3.connect(tmp_path / "home" / "events" / "models.db")) as connection, connection:
        connection.execute("UPDATE corpus_item SET state = 'removed'")
    assert lines(events("rebuild", "corpus_state", "--json"))[0]["same"] is False
    assert lines(events("rebuild", "corpus_state", "--json"))[0]["same"] is True


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("tail", "nowhere"), "There is no topic 'nowhere'. The topics are: corpus.items"),
        (("publish", "corpus.items", "{", "--key", "k"), "'{' is not JSON"),
        (
            ("publish", "corpus.items", '{"source": 1}', "--key", "k"),
            "does not fit urn:aura:event:corpus.items.changed",
        ),
        (("publish", "alerts", "{}", "--key", "k"), "give --type alerts.raised"),
        (("replay", "alerts", "--partition", "5"), "has the partitions 0 to 0, not 5"),
        (("expire", "nowhere"), "There is no topic 'nowhere'"),
        (("rebuild", "nothing"), "There is no read model 'nothing'. The models are: corpus_state"),
        (("replay", "alerts", "--offset", "5", "--since", "2026-01-01"), "two ways to say where to begin"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(events, arguments, said):
    run = events(*arguments)
    assert run.returncode != 0
    assert said in " ".join(run.stderr.replace("│", " ").split())
    assert "Traceback" not in run.stderr


def test_a_broker_that_is_down_is_an_error_for_readers_and_a_notice_for_publishers(events):
    variables = {"AURA_EVENTS__KAFKA": "127.0.0.1:1", "AURA_EVENTS__TIMEOUT_SECONDS": "1"}
    run = events("tail", "corpus.items", **variables)
    assert run.returncode == 1
    assert "Kafka at 127.0.0.1:1 did not answer" in run.stderr
    assert run.stdout == ""
    assert "did not answer" in events("models", **variables).stderr
    published = events("publish", "corpus.items", item("x"), "--key", "s", "--json", **variables)
    assert lines(published)[0]["offset"] is None
