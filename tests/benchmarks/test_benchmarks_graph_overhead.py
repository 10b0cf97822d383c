"""The benchmark of the graph's overhead runs both sides for real and reports in the form that all benchmarks share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SCRIPT = BENCHMARKS / "graph_overhead.py"
KEYS = {"name", "value", "unit", "against", "goal", "holds", "runs"}
COMMON = ("corpus_manifest", "text_embeddings", "embedding_diagrams", "expert_model", "expert_routing_table")


def benchmark(*arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AURA_")}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )


def check_shape(report, *, runs):
    assert set(report) == {"benchmark", "machine", "figures"}
    assert report["benchmark"] == "graph_overhead"
    assert report["machine"]
    for figure in report["figures"]:
        assert set(figure) == KEYS
        assert len(figure["runs"]) == runs
        assert figure["holds"] == (None if figure["goal"] is None else figure["value"] <= figure["goal"])
    names = [figure["name"] for figure in report["figures"]]
    assert len(set(names)) == len(names)
    figures = {figure["name"]: figure for figure in report["figures"]}
    for ratio in ("work", "whole process, one-time costs included"):
        assert figures[ratio]["goal"] == 1.10
        assert figures[ratio]["unit"] == "ratio"
    return {name: figure["value"] for name, figure in figures.items()}


@pytest.mark.slow
def test_both_sides_compute_everything_and_are_reported_in_the_common_form():
    run = benchmark("--items", "200", "--runs", "1", "--json")
    assert run.returncode == 0, run.stderr
    value = check_shape(json.loads(run.stdout), runs=1)
    assert value["work"] == pytest.approx(value["graph: work"] / value["bare: work"], rel=1e-3)
    for side in ("graph", "bare"):
        assert all(value[f"{side}: step {asset}"] > 0 for asset in (*COMMON, "tier_profile", "tier_placement"))
        steps = sum(seconds for name, seconds in value.items() if name.startswith(f"{side}: step "))
        assert steps + value[f"{side}: between steps"] == pytest.approx(value[f"{side}: work"], abs=0.01)
        assert value[f"{side}: work"] < value[f"{side}: whole process"]


@pytest.mark.parametrize(
    ("arguments", "said"), [(("--runs", "0"), "--runs is 0"), (("--items", "9", "--data", "."), "not allowed with")]
)
def test_arguments_that_make_no_sense_are_refused(arguments, said):
    run = benchmark(*arguments)
    assert run.returncode == 2
    assert said in run.stderr
