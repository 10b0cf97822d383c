"""The commands `aura events` show and publish real events, and say plainly what is wrong."""

from __future__ import annotations

import io
import json
import os
import sys
from dataclasses import dataclass

import pytest

from aura.cli import main


@dataclass
class Run:
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def events(tmp_path, monkeypatch, capsys):
    """Runs `aura events ...` with a home of the test's own."""
    for name in [name for name in os.environ if name.startswith("AURA_")]:
        monkeypatch.delenv(name)
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
    published = events("publish", "corpus.items", item("x"), "--key", "s", "--json", **variables)
    assert lines(published)[0]["offset"] is None
