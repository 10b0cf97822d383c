"""The benchmark of the event log kills and measures for real, and reports in the form that all benchmarks share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "events.py"
KEYS = {"name", "value", "unit", "against", "goal", "holds", "runs"}


def benchmark(*arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AURA_")}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def reported(run):
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    assert set(report) == {"benchmark", "machine", "figures"}
    assert report["benchmark"] == "events"
    for figure in report["figures"]:
        assert set(figure) == KEYS
        assert figure["holds"] == (None if figure["goal"] is None else figure["value"] <= figure["goal"])
    figures = {figure["name"]: figure for figure in report["figures"]}
    assert len(figures) == len(report["figures"])
    return figures


@pytest.mark.slow
def test_the_crash_run_reports_what_was_wrong_and_how_long_it_took():
    figures = reported(benchmark("--part", "embedded", "--kills", "6", "--acknowledged", "3000", "--json"))
    assert figures["embedded: acknowledged"]["value"] >= 3000
    assert sum(figure["value"] for name, figure in figures.items() if ": kills of " in name) == 6
    for what in ("lost", "without effect", "duplicates", "disordered", "unplanned"):
        figure = figures[f"embedded: {what}"]
        assert (figure["value"], figure["goal"], figure["holds"]) == (0, 0, True)
    assert len(figures["embedded: restart of a process, p99"]["runs"]) == 6


@pytest.mark.slow
@pytest.mark.servers
def test_the_throughput_is_that_of_both_sides_on_the_same_broker(kafka):
    figures = reported(benchmark("--part", "throughput", "--events", "2000", "--runs", "2", "--json"))
    for what in ("publish", "read"):
        ours, theirs = (figures[f"{side}: {what}"]["runs"] for side in ("EventLog", "bare confluent-kafka"))
        ratios = [bare / log for log, bare in zip(ours, theirs, strict=True)]
        assert figures[f"time to {what} an event"]["runs"] == pytest.approx(ratios, rel=1e-3)


def test_arguments_that_make_no_sense_are_refused():
    run = benchmark("--kills", "0")
    assert run.returncode == 2
    assert "--kills is 0" in run.stderr
