"""All benchmarks report in one form, and each has a stored baseline in it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
PROGRAMS = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
KEYS = {"name", "value", "unit", "against", "goal", "holds", "runs"}

sys.path.insert(0, str(BENCHMARKS))
from report import as_json, figure  # noqa: E402  it lies beside the benchmarks


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_benchmark_has_a_baseline_in_the_common_form(name):
    report = json.loads((BENCHMARKS / "baselines" / f"{name}.json").read_text(encoding="utf-8"))
    assert report["benchmark"] == name
    assert report["machine"]
    names = [each["name"] for each in report["figures"]]
    assert names
    assert len(set(names)) == len(names)
    for each in report["figures"]:
        assert set(each) == KEYS
        assert each["runs"]
        assert (each["holds"] is None) == (each["goal"] is None)


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_benchmark_is_described_in_the_readme(name):
    assert f"## {name}" in (BENCHMARKS / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("goal", "at_least", "holds"), [(None, False, None), (2.0, False, True), (1.9, False, False), (1.9, True, True)]
)
def test_a_figure_is_the_median_of_its_runs_and_holds_against_its_goal(goal, at_least, holds):
    made = figure("speed", [3.0, 1.0, 2.0], "s", goal=goal, at_least=at_least)
    assert (made["value"], made["holds"], made["runs"]) == (2.0, holds, [3.0, 1.0, 2.0])


def test_the_object_is_json(capsys):
    as_json("nothing", [figure("speed", [1.0], "s")])
    assert json.loads(capsys.readouterr().out)["benchmark"] == "nothing"
