"""`aura top` on real homes: an empty one, one with a store, costs and events, and one with something damaged."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from aura.cli import app
from aura.events.event import new_event
from aura.events.opening import open_event_log
from aura.measure.cost import Cost
from aura.measure.energy import Energy
from aura.measure.mlflow_recorder import MlflowRecorder
from aura.measure.mlflow_store import database_path
from aura.measure.recorder import Record
from aura.overview.event_log import TopicFigures
from aura.overview.once import as_object, look_at
from aura.overview.panels import absence, read_at, read_at_each
from aura.overview.readings import Reader, Reading
from aura.overview.sources import Sources, has_owner
from aura.overview.top import Top
from aura.settings import load_settings
from aura.tiers.catalog import Catalog
from aura.tiers.opening import open_configured_store
from aura.tiers.places import pointer_key
from aura.topology.cycles import Cycle, CycleProvenance, RepresentativeCycles

CYCLES = RepresentativeCycles(
    (Cycle(1.0, 2.0, 3.0, exact=True, vertices=(0, 1, 2)),), CycleProvenance(points=3, metric="euclidean", bars=1)
)


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.setenv("AURA_HOME", str(tmp_path / "home"))
    return load_settings()


@pytest.fixture
def used(empty):
    """A home with a value, what it cost, and an event; its store is open in this process."""
    now = datetime.now(UTC) - timedelta(seconds=90)
    energy = Energy("modelled", 12.5, {"cpu": 12.5}, "25 W a core", None)
    cost = Cost(
        started_at=now,
        wall_seconds=1.5,
        cpu_seconds=0.5,
        peak_memory_bytes=1 << 20,
        peak_memory_method="VmHWM",
        energy=energy,
    )
    record = Record(
        subject="embedding_loops", partition="notes", run_id="run-1", group="topology", code_version="1", cost=cost,
        figures={"rows": 1.0, "check_loops_represent_their_bars": 1.0}, tags={"outcome": "made"},
    )  # fmt: skip
    MlflowRecorder(empty.tracking_uri).record(record)
    log = open_event_log(empty)
    changed = {"source": "notes", "changed": [], "removed": []}
    log.publish("corpus.items", [new_event("corpus.items.changed", changed, source="test", key="notes")])
    log.close()
    with open_configured_store(empty) as store:
        Catalog(store).publish("embedding_loops", CYCLES, partition="notes", provenance={})
        yield empty


def run(*arguments, code=0):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout


def test_top_prints_the_state_once_where_there_is_no_terminal(used):
    printed = run("top")
    assert re.search(r"processor +\d+\.\d % of \d+ cores", printed)
    assert re.search(r"L3 RocksDB .*of the disk", printed)
    assert re.search(r"corpus\.items +1 ", printed)
    assert re.search(r"embedding_loops +notes +fresh +\d min ago +1\.50 s +0\.500 s +12\.5 J modelled", printed)


def test_top_says_the_same_as_json(used):
    state = json.loads(run("top", "--json"))
    assert state["errors"] == {}
    assert [tier["tier"] for tier in state["tiers"]][-1] == "L3"
    (asset,) = (row for row in state["assets"] if row["succeeded_at"] is not None)
    assert (asset["asset"], asset["partition"], asset["joules"], asset["energy_source"]) == (
        "embedding_loops", "notes", 12.5, "modelled",
    )  # fmt: skip
    assert (asset["peak_memory_mib"], asset["rows"]) == (1.0, 1)
    assert asset["current_at"] == asset["succeeded_at"]
    assert sum(asset["tier_bytes"].values()) == asset["bytes"] > 0
    assert asset["tier_bytes"].keys() <= {"L0", "L1", "L2", "L3"}
    assert next(topic for topic in state["events"] if topic["name"] == "corpus.items")["records"] == 1
    assert state["taken_at"].keys() == {"tiers", "events", "costs", "values", "sources"}
    moments = map(datetime.fromisoformat, state["taken_at"].values())
    assert max(moments) <= datetime.fromisoformat(state["at"])


def test_recent_gets_are_told_with_their_window_once_there_is_one(used):
    sources = Sources.of(used)
    (first, *_), (second, *_) = (as_object(look_at(sources, lambda *_: None))["tiers"] for _ in range(2))
    assert (first["recent_gets"], first["recent_get_seconds"], first["recent_seconds"]) == (None, None, None)
    assert second["recent_seconds"] > 0
    assert second["recent_gets"] >= 0


def damage_sources(settings):
    settings.sources_file.write_text("{", encoding="utf-8")


def damage_pointer(settings):
    with open_configured_store(settings) as store:
        store.put(pointer_key("embedding_loops", "notes"), b"{")


def damage_log(settings):
    settings.event_log_file.write_bytes(b"this is no database" * 1000)


def damage_costs(settings):
    database_path(settings.tracking_uri).write_text("this is no database", encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "name", "told"),
    [
        (damage_sources, "sources", "sources.json is damaged"),
        (damage_pointer, "pointers", "the pointer 'pointers/embedding_loops/notes' cannot be read"),
        (damage_log, "events", "log.db"),
        (damage_costs, "costs", "cannot read costs from MLflow"),
    ],
)
def test_what_is_damaged_is_said_and_the_exit_code_tells(used, damage, name, told):
    damage(used)
    state = json.loads(run("top", "--json", code=1))
    assert state["errors"].keys() == {name}
    assert told in state["errors"][name]
    assert told in " ".join(run("top", "--once", code=1).split())


def test_what_is_damaged_is_said_on_the_live_screen_above_the_assets(used):
    damage_sources(used)

    async def look():
        top = Top(Sources.of(used), "home", interval=0.25, window=timedelta(minutes=1))
        async with top.run_test(size=(150, 50)) as pilot:
            drawn = await drawn_when(top, pilot, "sources.json is damaged")
            assert "embedding_loops" in drawn

    asyncio.run(look())


def test_a_store_without_an_owner_is_no_failure_and_one_that_is_silent_is(empty):
    directory = empty.store_directory
    assert not has_owner(directory)
    with open_configured_store(empty):
        assert has_owner(directory)
        address = (directory / "owner.json").read_text()
    assert not has_owner(directory)
    # As a killed owner leaves it.
    (directory / "owner.json").write_text(address)
    assert not has_owner(directory)
    state = json.loads(run("top", "--json"))
    assert "aura tiers serve" in state["errors"]["values"]
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(json.loads(address)["socket"])
        mute.listen()
        assert has_owner(directory)
        assert Sources.of(empty).unread(["tiers", "values", "events", "costs"]) == ["tiers", "values", "costs"]


def test_top_in_an_empty_home_says_the_remedies_and_makes_nothing(empty):
    state = json.loads(run("top", "--json"))
    assert "aura tiers serve" in state["errors"]["tiers"]
    assert "make up" in state["errors"]["events"]
    assert (state["tiers"], state["events"], state["assets"]) == (None, None, [])
    assert [name for name, moment in state["taken_at"].items() if moment is None] == ["tiers", "events", "values"]
    assert not empty.home.exists()


def test_the_live_screen_shows_everything_pauses_and_changes_its_pace(used):
    sources = Sources.of(used)
    sources.assets(patience_seconds=120)

    async def look():
        top = Top(sources, str(used.home), interval=0.25, window=timedelta(minutes=1))
        async with top.run_test(size=(150, 50)) as pilot:
            for _ in range(100):
                await pilot.pause(0.1)
                drawn = top.export_screenshot().replace("&#160;", " ")
                if all(text in drawn for text in ("embedding_loops", "RocksDB", "corpus.items", "cores")):
                    break
            else:
                pytest.fail("the panels were never complete")
            await pilot.press("minus")
            assert "every 0.5 s" in top.export_screenshot().replace("&#160;", " ")
            await pilot.press("p")
            assert "paused" in top.export_screenshot().replace("&#160;", " ")
            await pilot.press("q")

    asyncio.run(look())


def drawn_when(top, pilot, text):
    async def look():
        for _ in range(200):
            await pilot.pause(0.05)
            drawn = top.export_screenshot().replace("&#160;", " ")
            if text in drawn:
                return drawn
        pytest.fail(f"{text!r} was never drawn")

    return look()


def test_ages_go_on_while_nothing_happens_and_a_silent_source_is_said(empty):
    now = [datetime(2026, 11, 20, 12, tzinfo=UTC)]
    topic = TopicFigures("alerts", 1, timedelta(days=1), 3, 3, 0, now[0] - timedelta(seconds=5), {})
    answer, silence = threading.Event(), [0.0]
    sources = replace(
        Sources.of(empty),
        topics=Reader(lambda: (topic,), ()),
        tiers=Reader(lambda: answer.wait(60) and (), (), lambda: silence[0]),
    )

    async def look():
        top = Top(sources, "home", interval=0.25, window=timedelta(minutes=1), clock=lambda: now[0])
        async with top.run_test(size=(150, 50)) as pilot:
            drawn = await drawn_when(top, pilot, "5 s ago")
            assert re.search(r"as of \d\d:\d\d:\d\d", drawn)
            await drawn_when(top, pilot, "lines reach back")
            now[0] += timedelta(seconds=60)
            silence[0] = 8.0
            await drawn_when(top, pilot, "1 min ago")
            await drawn_when(top, pilot, "no answer for 8 s")
            answer.set()

    asyncio.run(look())


def test_a_panel_says_when_it_was_read_and_since_when_its_source_is_silent():
    moment = datetime(2026, 11, 20, 12, tzinfo=UTC)
    at = f"as of {moment.astimezone():%H:%M:%S}"
    assert read_at(Reading("value", moment, None, 0.4)) == at
    assert read_at(Reading("value", moment, None, 9.0)) == f"no answer for 9 s, {at}"
    later = moment + timedelta(seconds=30)
    then = f"as of {later.astimezone():%H:%M:%S}"
    costs, stored = Reading("value", moment, None, 0.0), Reading("value", later, None, 0.0)
    soon = replace(stored, taken_at=moment + timedelta(seconds=5))
    assert read_at_each({"costs": costs, "stored": stored}) == f"costs {at}; stored {then}"
    assert read_at_each({"costs": costs, "stored": soon}) == at
    assert read_at_each({"costs": costs, "stored": Reading(None, later, "start it", 0.0)}) == f"costs {at}"
    assert read_at_each({"costs": costs, "stored": replace(soon, waited_seconds=9.0)}).startswith(
        f"costs {at}; stored no"
    )
    assert absence(Reading("value", moment, None, 9.0)) is None
    assert absence(Reading(None, moment, None, 9.0)) == "no answer for 9 s"
    assert absence(Reading(None, moment, "start it", 9.0)) == "start it"
