"""Drift of networks: structure by shape, names by the plain test, and windows that cannot be compared."""

import math
from datetime import UTC, datetime

import numpy as np
import pytest

from aura.topology.drift.checks import windows_are_exchangeable
from aura.topology.drift.networks import network_drift
from aura.topology.drift.plots import drift_plot
from aura.topology.drift.report import Decided, DriftReport, Unavailable, Verdict
from aura.topology.drift.samples import SampleError
from aura.topology.drift.settings import DriftSettings
from aura.topology.networks import NetworkSeries, correlation_windows, message_windows

SETTINGS = DriftSettings(false_alarms=0.05)
NODES, WINDOW = 12, 40


def factor_signals(windows, seed, *, factors=3, names=None):
    """Independent rows of signals that follow shared factors, a group of signals each."""
    rng = np.random.default_rng(seed)
    rows = windows * WINDOW
    shared = rng.normal(size=(rows, factors))[:, np.arange(NODES) % factors]
    values = shared + rng.normal(size=(rows, NODES))
    return correlation_windows(values, names or [f"s{n}" for n in range(NODES)], window=WINDOW)


def messages(windows, seed, *, ring=False, prefix="n", window=150):
    """Two groups that write among themselves, or a ring in which everybody writes to the next."""
    rng = np.random.default_rng(seed)
    sender = rng.integers(0, NODES, windows * window)
    offset = rng.integers(1, NODES // 2, len(sender))
    half = NODES // 2
    receiver = sender // half * half + (sender % half + offset) % half
    if ring:
        receiver = (sender + 1) % NODES
    return message_windows([f"{prefix}{n}" for n in sender], [f"{prefix}{n}" for n in receiver], window=window)


def drift(before, now, settings=SETTINGS):
    return network_drift(before, now, source="a test", settings=settings)


@pytest.mark.parametrize(
    ("before", "now"), [(factor_signals(12, 1), factor_signals(12, 2)), (messages(12, 1), messages(12, 2))]
)
def test_more_of_the_same_is_no_drift(before, now):
    report = drift(before, now)
    assert report.verdict is Verdict.NONE
    assert isinstance(report.topology, Decided)
    assert isinstance(report.plain, Decided)


@pytest.mark.parametrize(
    ("before", "now"),
    [(factor_signals(12, 1), factor_signals(12, 2, factors=1)), (messages(12, 1), messages(12, 2, ring=True))],
)
def test_another_structure_is_seen_by_both(before, now):
    assert drift(before, now).verdict is Verdict.BOTH


def test_names_that_change_places_are_seen_by_the_plain_test_alone():
    names = [f"s{n}" for n in np.random.default_rng(0).permutation(NODES)]
    report = drift(factor_signals(12, 1), factor_signals(12, 2, names=names))
    assert report.verdict is Verdict.PLAIN_ALONE


def test_under_new_names_the_same_structure_is_no_drift_and_another_one_is():
    same, other = messages(12, 2, prefix="new"), messages(12, 2, prefix="new", ring=True)
    report = drift(messages(12, 1), same)
    assert isinstance(report.plain, Unavailable)
    assert "share 0 names of 12 and 12" in report.plain.reason
    assert report.verdict is Verdict.NONE
    assert drift(messages(12, 1), other).verdict is Verdict.TOPOLOGY_ALONE


def test_a_node_that_left_is_left_out_of_the_plain_test():
    before, now = factor_signals(12, 1), factor_signals(12, 2, names=[*[f"s{n}" for n in range(NODES - 1)], "new"])
    report = drift(before, now)
    assert "the 11 nodes" in report.plain.method
    assert report.verdict is Verdict.NONE


def test_a_signal_that_stands_still_is_drift():
    rng = np.random.default_rng(2)
    values = rng.normal(size=(12 * WINDOW, NODES)) + rng.normal(size=(12 * WINDOW, 1))
    names = [f"s{n}" for n in range(NODES)]
    before = correlation_windows(values, names, window=WINDOW)
    stuck = values[::-1].copy()
    stuck[:, 4] = 1.5
    assert drift(before, correlation_windows(stuck, names, window=WINDOW)).verdict is Verdict.BOTH


def test_the_level_is_kept_without_drift():
    """At levels of 1/5 each: within four standard deviations of 50 trials.

    A rate of twice the level, or of none, would pass: the rates themselves are measured by `benchmarks/drift.py`.
    """
    trials, settings = 50, DriftSettings(false_alarms=0.4)
    reports = [drift(messages(6, 2 * t, window=60), messages(6, 2 * t + 1, window=60), settings) for t in range(trials)]
    for name in ("topology", "plain"):
        rate = np.mean([getattr(report, name).alarm for report in reports])
        assert abs(rate - 0.2) < 4 * math.sqrt(0.2 * 0.8 / trials)


def test_windows_that_follow_a_slow_change_are_warned_of():
    """The groups dissolve and form again in the course of twelve windows, on both sides alike."""

    def swelling(seed):
        rng = np.random.default_rng(seed)
        rows = np.arange(12 * WINDOW)
        weight = 1.0 + np.sin(2 * np.pi * rows / len(rows))
        values = weight[:, None] * rng.normal(size=(len(rows), 1)) + rng.normal(size=(len(rows), NODES))
        return correlation_windows(values, [f"s{n}" for n in range(NODES)], window=WINDOW)

    report = drift(swelling(1), swelling(2))
    result = windows_are_exchangeable(report)
    assert not result.passed
    assert result.figures["p_value"] == report.neighbours_alike
    assert "drift is found too often" in report.sentence


def test_windows_without_memory_are_exchangeable():
    assert windows_are_exchangeable(drift(factor_signals(12, 1), factor_signals(12, 2))).passed
    assert windows_are_exchangeable(drift(factor_signals(12, 1), factor_signals(1, 2))).passed


def test_both_directions_are_compared():
    report = drift(factor_signals(12, 1), factor_signals(12, 2))
    names = [part.name for part in report.topology.components]
    assert names == ["H0, strong first", "H1, strong first", "H0, weak first", "H1, weak first"]


def test_more_windows_than_are_compared_are_thinned_out():
    report = drift(messages(40, 1, window=30), messages(8, 2, window=30))
    assert (report.topology.reference, report.topology.current) == (25, 8)
    assert (report.reference.items, report.current.items) == (40, 8)


def test_too_few_windows_are_unavailable():
    report = drift(messages(12, 1), messages(1, 2))
    assert report.verdict is Verdict.UNDECIDED
    assert "1 now" in report.topology.reason
    assert drift(messages(12, 1), NetworkSeries((), 150)).verdict is Verdict.UNDECIDED


def test_networks_too_large_for_their_shape_are_left_to_the_plain_test():
    report = drift(factor_signals(12, 1), factor_signals(12, 2), DriftSettings(false_alarms=0.05, most_nodes=10))
    assert "12 nodes" in report.topology.reason
    assert isinstance(report.plain, Decided)


def test_a_report_comes_back_and_can_be_drawn():
    report = network_drift(
        messages(12, 1),
        messages(12, 2, prefix="new"),
        source="a test",
        reference_made_at=datetime(2026, 1, 1, tzinfo=UTC),
        made_at=datetime(2026, 2, 1, tzinfo=UTC),
        settings=SETTINGS,
    )
    assert DriftReport.from_parts(report.to_parts()) == report
    assert drift_plot(report).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("now", "complaint"),
    [
        (messages(6, 2, window=99), "windows of 150 in the reference and of 99 now"),
        (NetworkSeries(factor_signals(6, 1).networks, 150), "messages and the current side correlation"),
    ],
)
def test_what_cannot_be_compared_is_refused(now, complaint):
    with pytest.raises(SampleError, match=complaint):
        drift(messages(6, 1), now)
