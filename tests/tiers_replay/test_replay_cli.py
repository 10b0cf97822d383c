"""`aura tiers replay` prints what was computed, draws it, and measures a real store."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from aura.cli import app
from aura.tiers.errors import CapacityError
from aura.tiers.replay.comparison import OPTIMUM, compare, mean_gap_closed
from aura.tiers.replay.lru import Lru
from aura.tiers.replay.optimum import belady, pfoo_lower
from aura.tiers.replay.policy import replay
from aura.tiers.replay.through_store import replay_online, replay_through_store
from aura.tiers.replay.trace import Trace

runner = CliRunner()


def run(*arguments: object) -> str:
    result = runner.invoke(app, ["tiers", "replay", *map(str, arguments)], env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: object) -> str:
    result = runner.invoke(app, ["tiers", "replay", *map(str, arguments)], env={"COLUMNS": "400"})
    assert result.exit_code == 2
    return result.output


@pytest.fixture
def sized(tmp_path: Path) -> Path:
    random = np.random.default_rng(3)
    keys = np.minimum(random.zipf(1.3, 3000), 500)
    path = tmp_path / "sized.txt"
    path.write_text("".join(f"{key},{500 + key % 7 * 100}\n" for key in keys.tolist()))
    return path


@pytest.fixture
def looping(tmp_path: Path) -> Path:
    path = tmp_path / "loop.txt"
    path.write_text("".join(f"{key}\n" for _ in range(60) for key in range(100)))
    return path


def test_the_json_object_has_each_policy_at_each_size_with_its_share_of_the_gap(sized):
    found = json.loads(run(sized, "--unit", "--sizes", "20,10%", "--policy", "arc", "--policy", "s3-fifo", "--json"))
    assert (found["trace"], found["accesses"], found["unit"]) == ("sized", 3000, "objects")
    sizes = sorted({20, found["objects"] // 10})
    assert [(row["policy"], row["capacity"]) for row in found["rows"]] == [
        (name, size) for size in sizes for name in ("lru", "arc", "s3-fifo", OPTIMUM)
    ]
    lru, arc, _, best = found["rows"][:4]
    assert best["miss_ratio"] <= arc["miss_ratio"]
    assert arc["gap_closed"] == pytest.approx(
        (lru["miss_ratio"] - arc["miss_ratio"]) / (lru["miss_ratio"] - best["miss_ratio"])
    )


def test_sizes_of_the_trace_count_as_bytes(sized):
    found = json.loads(run(sized, "--sizes", "16KiB", "--policy", "lru", "--json"))
    assert found["unit"] == "bytes"
    assert found["rows"][0]["capacity"] == 16384
    assert found["rows"][0]["missed_bytes"] == found["rows"][0]["admitted_bytes"] > 100 * found["rows"][0]["miss_ratio"]


def test_the_table_shows_all_policies_and_what_the_portfolio_followed(sized):
    text = run(sized, "--limit", "1500", "--sizes", "10%")
    assert "1,500 accesses" in text
    for name in ("lru", "one-hit-gate", "s3-fifo", "arc", "w-tinylfu", "cycle-aware", "hit-density", "portfolio: "):
        assert name in text


def test_a_budget_below_one_cycle_is_warned_of(looping):
    text = run(looping, "--sizes", "50,200", "--policy", "portfolio")
    assert text.count("less than one cycle of 100 accesses") == 1
    assert "50 objects are less than" in text


def test_the_cost_of_several_tiers_is_that_of_their_miss_ratios(sized):
    options = (sized, "--unit", "--sizes", "10,50", "--policy", "lru", "--costs", "1,5,105")
    found = json.loads(run(*options, "--json"))
    for name, policy in (("lru_cascade", "lru"), ("stacked_bound", OPTIMUM)):
        small, large = (row["miss_ratio"] for row in found["rows"] if row["policy"] == policy)
        assert found[name] == pytest.approx(1 + 4 * small + 100 * large)
    text = run(*options)
    assert "lru cascade: " in text
    assert "stacked bound: " in text


def test_the_plot_is_a_png(sized, tmp_path):
    run(sized, "--limit", "1000", "--policy", "arc", "--plot", tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_replay_through_the_store_measures_its_gets(sized):
    found = json.loads(
        run(
            sized,
            "--limit",
            "1200",
            "--unit",
            "--sizes",
            "40",
            "--policy",
            "arc",
            "--store",
            "--object-bytes",
            "256",
            "--json",
        )
    )["store"]
    assert list(found) == ["lru", "arc", "online layer"]
    assert all(outcome["accesses"] == 1200 for outcome in found.values())
    for outcome in (found["lru"], found["arc"]):
        assert 0 < outcome["from_memory"] < 1200
        assert outcome["mean_get_seconds"] > 0
        assert outcome["refused"] == 0
        assert outcome["moved_bytes"] % 256 == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--policy", "clock"], "no policy 'clock'; there are lru"),
        (["--sizes", "many"], "'many' is not a part"),
        (["--sizes", "0.0001%"], "is less than one of"),
        (["--costs", "1,2"], "'1,2' is not 4 costs"),
        (["--costs", "1,9,5,20"], "ascending"),
        (["--costs", "1,x"], "no number"),
        (["--format", "csv"], "no format 'csv'; there are routes"),
        (["--limit", "0"], "limit"),
    ],
)
def test_what_is_wrong_with_an_option_is_said(sized, options, says):
    assert says in refused(sized, *options)


def test_a_damaged_or_missing_trace_is_named(tmp_path):
    (tmp_path / "bad.txt").write_text("1\nx\n")
    assert "bad.txt, line 2" in refused(tmp_path / "bad.txt")
    assert "absent.txt" in refused(tmp_path / "absent.txt")


def test_a_comparison_agrees_with_its_parts():
    random = np.random.default_rng(1)
    trace = Trace(
        "zipf", np.minimum(random.zipf(1.3, 2000), 300), random.integers(1, 50, 301)[np.zeros(2000, dtype=int)]
    )
    said: list[tuple[str, float]] = []
    rows = compare(trace, [200], ["arc"], tell=lambda text, part: said.append((text, part)))
    assert [row.policy for row in rows] == ["lru", "arc", OPTIMUM]
    assert rows[0].outcome == replay(Lru(200), trace)
    assert rows[2].outcome == pfoo_lower(trace, 200)
    assert said == [("zipf: lru with 200", 0.0), ("zipf: arc with 200", 0.5)]
    assert mean_gap_closed(rows, "arc") == rows[1].gap_closed
    assert compare(trace.without_sizes(), [5], [])[-1].outcome == belady(trace, 5)


def test_no_gap_is_no_share():
    rows = compare(Trace("once", np.arange(50)), [5], ["arc"])
    assert mean_gap_closed(rows, "arc") is None


def test_what_the_store_answers_from_memory_is_what_the_policy_keeps_there(tmp_path):
    trace = Trace("few", np.tile(np.arange(8), 128), np.full(1024, 1000))
    outcome = replay_through_store(tmp_path / "store", trace, Lru(8000))
    # After the first move, at access 256, all eight are in memory.
    assert (outcome.accesses, outcome.from_memory, outcome.moved_bytes) == (1024, 768, 8000)


def test_the_online_layer_of_a_real_store_keeps_what_is_read_often(tmp_path):
    weights = 1 / np.arange(1, 101) ** 1.2
    ids = np.random.default_rng(0).choice(100, 20_000, p=weights / weights.sum())
    outcome = replay_online(tmp_path / "store", Trace("skewed", ids, np.full(20_000, 16_384)), 20 * 16_384)
    assert outcome.accesses == 20_000
    assert outcome.from_memory > 8000
    assert 10 * 16_384 <= outcome.moved_bytes < 500 * 16_384
    assert outcome.move_seconds > 0


def test_more_bytes_than_a_replay_may_write_are_refused_before_any_is(tmp_path):
    trace = Trace("huge", np.arange(3), np.full(3, 1 << 30))
    with pytest.raises(CapacityError, match=r"3\.0 GiB, more than 2 GiB.*--limit"):
        replay_through_store(tmp_path / "store", trace, Lru(100))
    assert not (tmp_path / "store").exists()
