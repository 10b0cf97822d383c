"""`aura report` on real homes: a whole one, an empty one, and with one thing damaged or silent."""

from __future__ import annotations

import os
import re
import resource
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from html import unescape

import numpy as np
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
from aura.overview import costs
from aura.overview import report as report_module
from aura.overview.pictures import PICTURES, Picture
from aura.overview.project import Section
from aura.overview.report import save_report
from aura.settings import load_settings
from aura.tiers.catalog import Catalog
from aura.tiers.opening import open_configured_store
from aura.tiers.places import pointer_key
from aura.topology.cycles import Cycle, CycleProvenance, RepresentativeCycles
from aura.topology.diagrams import Attempt, DiagramProvenance, PersistenceDiagrams

ALERT = {
    "alert": "run/1",
    "severity": "critical",
    "failed": "text_embeddings of notes failed 3 times",
    "error": "OSError: disk <full>",
    "remedy": "Free space under the home.",
}
CYCLES = RepresentativeCycles(
    (Cycle(1.0, 2.0, 3.0, exact=True, vertices=(0, 1, 2)),), CycleProvenance(points=3, metric="euclidean", bars=1)
)

BARS = np.array([[0, 0.0, np.inf], [0, 0.0, 1.5], [1, 1.0, 2.0]])
DIAGRAMS = PersistenceDiagrams.from_bars(
    BARS, DiagramProvenance(3, 3, 0.0, "euclidean", "a test", 7, 1, (Attempt(3, "done"),))
)


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.setenv("AURA_HOME", str(tmp_path / "home"))
    return load_settings()


@pytest.fixture
def settings(empty):
    """A home with two values, what one cost, a source, an alert and an event; no process owns its store."""
    energy = Energy("modelled", 12.5, {"cpu": 12.5}, "25 W a core", None)
    now = datetime.now(UTC) - timedelta(seconds=90)
    cost = Cost(
        started_at=now,
        wall_seconds=1.5,
        cpu_seconds=0.5,
        peak_memory_bytes=1 << 20,
        peak_memory_method="VmHWM",
        energy=energy,
    )
    record = Record("embedding_loops", "notes", "run-1", "topology", "1", cost, {"rows": 1.0}, {"outcome": "made"})
    MlflowRecorder(empty.tracking_uri).record(record)
    log = open_event_log(empty)
    log.publish("alerts", [new_event("alerts.raised", ALERT, source="test", key="run/1")])
    changed = {"source": "notes", "changed": [], "removed": []}
    log.publish("corpus.items", [new_event("corpus.items.changed", changed, source="test", key="notes")])
    log.close()
    with open_configured_store(empty) as store:
        Catalog(store).publish("embedding_loops", CYCLES, partition="notes", provenance={})
        Catalog(store).publish("embedding_diagrams", DIAGRAMS, partition="notes", provenance={})
    run("sources", "add", "notes", str(empty.home))
    return empty


def run(*arguments, code=0):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def report(tmp_path):
    """Writes the report; gives its sections by their titles, and what was said."""

    def write(*, code=0):
        target = tmp_path / "report.html"
        said = run("report", str(target), "--force", code=code)
        titles = re.split(r'<h2 id="[a-z]+">([^<]+)</h2>', target.read_text())
        assert titles[1::2] == [str(section) for section in Section]
        return dict(zip(["", *titles[1::2]], titles[::2], strict=True)), said

    return write


def alarms(section):
    return [
        unescape(re.sub("<[^>]+>", " ", each)) for each in re.findall(r'role="alert">(.*?)</div>', section, re.DOTALL)
    ]


def test_the_report_tells_assets_alerts_tiers_events_costs_and_values(settings, report):
    sections, said = report()
    assert "embedding_loops" in sections["Assets"]
    assert re.search(r"12\.5 J.*modelled", sections["Assets"])
    assert "text_embeddings of notes failed 3 times" in sections["Alerts"]
    assert "disk &lt;full&gt;" in sections["Alerts"]
    assert re.search(r"corpus\.items.*1 ever published", sections["Events"])
    assert "RocksDB" in sections["Memory tiers"]
    assert "data:image/png" in sections["Costs"]
    assert re.search(r"<h4>embedding_diagrams</h4>.*data:image/png", sections["Values"], re.DOTALL)
    assert not alarms("".join(sections.values()))
    assert "could not be read" not in said


def test_the_report_says_whose_earlier_runs_are_left_out(settings, report, monkeypatch):
    assert "left out" not in report()[0]["Costs"]
    for module in (costs, report_module):
        monkeypatch.setattr(module, "RUNS_PER_ASSET", 1)
    assert "of embedding_loops the latest 1 runs, earlier ones are left out" in report()[0]["Costs"]


def test_the_report_is_one_file_that_loads_nothing(settings, report, tmp_path):
    report()
    content = (tmp_path / "report.html").read_text()
    assert not re.search(r"(src|href)=[\"'](?!data:|#)", content)
    assert "<script" not in content
    assert "--force" in run("report", str(tmp_path / "report.html"), code=2)


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_read(empty, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")
    (tmp_path / "taken").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for place, remedy in (("none/report.html", "make it"), ("taken", "aura-report.html"), ("pipe", "no ordinary file")):
        assert remedy in run("report", str(tmp_path / place), "--force", code=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pipe", "taken"]


def test_the_old_report_stays_until_the_new_one_is_on_the_disk(tmp_path):
    target = tmp_path / "report.html"
    save_report("old", target)
    target.chmod(0o640)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(OSError, match=r"report\.html cannot be written: .*give another place"):
            save_report("new" * (1 << 16), target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert target.read_text() == "old"
    link = tmp_path / "latest.html"
    link.symlink_to(target.name)
    save_report("new", link)
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("new", 0o640)
    assert link.is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest.html", "report.html"]


def test_without_an_owner_the_tiers_are_read_from_the_disk_and_with_one_from_its_memory(settings, report):
    sections, _ = report()
    assert "No process owned the store" in sections["Memory tiers"]
    assert "process memory" not in sections["Memory tiers"]
    assert "no owner that answers" in sections["Services"]
    with open_configured_store(settings):
        sections, _ = report()
    assert "No process owned the store" not in sections["Memory tiers"]
    assert "process memory" in sections["Memory tiers"]
    assert "no owner that answers" not in sections["Services"]


def test_the_report_of_an_empty_home_says_how_to_begin_and_makes_nothing(empty, report):
    sections, _ = report()
    assert "Nothing is materialized yet" in sections["Assets"]
    assert "make demo" in sections["Assets"]
    assert "There is no store yet" in sections["Memory tiers"]
    assert "aura events publish" in sections["Events"]
    assert not alarms("".join(sections.values()))
    assert not empty.home.exists()


def damage_sources(settings):
    settings.sources_file.write_text("{", encoding="utf-8")


def damage_costs(settings):
    database_path(settings.tracking_uri).write_text("this is no database", encoding="utf-8")


def cut_costs(settings):
    path = database_path(settings.tracking_uri)
    path.with_name(f"{path.name}-wal").unlink(missing_ok=True)
    path.write_bytes(path.read_bytes()[:8192])


def damage_log(settings):
    settings.event_log_file.write_bytes(b"this is no database" * 1000)


def damage_pointer(settings):
    with open_configured_store(settings) as store:
        store.put(pointer_key("embedding_diagrams", "notes"), b"{")


def lose_a_block(settings):
    with open_configured_store(settings) as store:
        store.delete(Catalog(store).find("embedding_diagrams", "notes").keys[0])


def exchange_a_block(settings):
    with open_configured_store(settings) as store:
        for key in Catalog(store).find("embedding_diagrams", "notes").keys:
            store.put(key, b"something else")


def damage_store(settings):
    for path in (settings.store_directory / "rocksdb").glob("MANIFEST-*"):
        path.write_bytes(b"")


@pytest.mark.parametrize(
    ("damage", "where", "told"),
    [
        (damage_sources, {"Assets"}, "sources.json is damaged"),
        (damage_costs, {"Costs"}, "Costs and freshness are not known"),
        (cut_costs, {"Costs"}, "Costs and freshness are not known"),
        (damage_log, {"Alerts", "Events"}, "are not known"),
        (damage_pointer, {"Values"}, "embedding_diagrams of notes cannot be read"),
        (lose_a_block, {"Values"}, "lacks the block"),
        (exchange_a_block, {"Values"}, "It cannot be shown"),
        (damage_store, {"Memory tiers"}, "The store cannot be opened"),
    ],
)
def test_what_is_damaged_costs_its_section_and_the_exit_code_tells(settings, report, damage, where, told):
    damage(settings)
    sections, said = report(code=1)
    said_why = {title: alarms(content) for title, content in sections.items() if alarms(content)}
    assert set(said_why) == {"", *where}
    assert told in " ".join(text for title in where for text in said_why[title])
    assert all(title in said for title in where)
    whole = {
        "Assets": "embedding_loops",
        "Alerts": "failed 3 times",
        "Memory tiers": "RocksDB",
        "Events": "ever published",
        "Costs": "data:image/png",
        "Services": "event_log",
    }
    assert all(text in sections[title] for title, text in whole.items() if title not in where)


def test_a_picture_that_cannot_be_drawn_costs_neither_the_other_pictures_nor_the_report(settings, report, monkeypatch):
    drawable = Picture("Barcode", "aura.topology.plots:barcode")
    broken = Picture("Kernel", "aura.topology.plots:barcode", of=lambda _: np.linalg.cholesky(-np.eye(2)))
    monkeypatch.setitem(PICTURES, "embedding_diagrams", (broken, drawable))
    sections, said = report(code=1)
    (told,) = alarms(sections["Values"])
    assert "Not all of it can be drawn" in told
    assert '"Kernel" (LinAlgError: Matrix is not positive definite)' in told
    assert '<img alt="Barcode" src="data:image/png' in sections["Values"]
    assert "Values" in said


def test_records_that_cannot_be_decoded_are_listed_with_the_reason(settings, report):
    with closing(sqlite3.connect(settings.event_log_file)) as connection, connection:
        connection.execute("UPDATE record SET value = X'00'")
    sections, _ = report()
    assert "(undecodable)" in sections["Alerts"]
    assert "1 ever published" in sections["Events"]


def test_a_broker_that_is_down_costs_its_sections_within_its_time_out(settings, report, monkeypatch):
    monkeypatch.setenv("AURA_EVENTS__KAFKA", "127.0.0.1:1")
    monkeypatch.setenv("AURA_EVENTS__TIMEOUT_SECONDS", "1")
    sections, said = report(code=1)
    assert "Kafka" in " ".join(alarms(sections["Events"]))
    assert alarms(sections["Alerts"])
    assert "embedding_loops" in sections["Assets"]
    assert "Alerts, Events" in said
