"""Notebooks on a home in which little is known."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path

import nbformat
import pytest

import aura
from aura.measure.cost import Cost
from aura.measure.energy import Energy
from aura.measure.mlflow_recorder import MlflowRecorder
from aura.measure.recorder import Record
from aura.overview.rendered import render
from aura.settings import load_settings
from aura.tiers.opening import open_configured_store
from aura.tiers.published import ValueNotPublishedError

COSTS = Path(__file__).resolve().parents[2] / "notebooks" / "costs.ipynb"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
UNAVAILABLE = Energy("unavailable", None, {}, "", "no counter")
MODELLED = Energy("modelled", 12.5, {"cpu": 12.5}, "25 W a core", None)
MEASURED = Energy("measured", 3.5, {"cpu": 3.5}, "a counter", None)


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Records one run an entry; gives what the notebook says of them in plain text, its pictures' number, the runs."""
    monkeypatch.setenv("AURA_HOME", str(tmp_path / "home"))

    def tell(*entries):
        recorder, runs = MlflowRecorder(load_settings().tracking_uri), []
        for asset, outcome, energy in entries:
            cost = Cost(
                started_at=NOON,
                wall_seconds=1.5,
                cpu_seconds=0.5,
                peak_memory_bytes=1 << 20,
                peak_memory_method="VmHWM",
                energy=energy,
            )
            record = Record(asset, "notes", "run-1", "topology", "1", cost, {}, {"outcome": outcome})
            runs.append(recorder.record(record))
        rendered = render(COSTS, os.environ, tmp_path)
        cells = nbformat.reads(rendered.notebook.decode(), as_version=4).cells
        outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
        texts = [output.get("text") or output["data"].get("text/plain", "") for output in outputs]
        return "\n".join(texts), rendered.counts()["pictures"], runs

    return tell


@pytest.mark.slow
def test_a_history_without_a_computation_is_told_in_words(told):
    text, *_ = told(("a", "failed", UNAVAILABLE))
    assert "1 runs of 1 assets" in text
    assert "No computation has succeeded yet" in text
    assert "No joules are known" in text


@pytest.mark.slow
def test_energy_that_is_not_known_is_called_unavailable_and_the_run_of_each_asset_is_named(told):
    text, pictures, runs = told(("a", "made", MODELLED), ("b", "made", MEASURED), ("c", "made", UNAVAILABLE))
    assert "3 runs of 3 assets" in text
    assert re.search(r"a +unavailable +12\.5\nb +3\.5 +unavailable", text)
    assert "NaN" not in text
    assert pictures == 3
    # Of each asset there is one run, the dearest and the latest.
    assert [text.count(run) for run in runs] == [2, 2, 2]


def test_a_source_without_a_drift_report_is_told_in_words(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AURA_HOME", str(tmp_path / "home"))
    with open_configured_store(load_settings()):
        pass
    last = nbformat.read(COSTS.with_name("topology.ipynb"), as_version=4).cells[-1]
    before = {"aura": aura, "source": "notes", "ValueNotPublishedError": ValueNotPublishedError}
    exec(last.source, before)
    assert capsys.readouterr().out.splitlines() == [
        f"{name}: not published for this source" for name in ("embedding_drift", "network_drift")
    ]
