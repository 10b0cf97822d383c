"""The history that placements hand on."""

from datetime import UTC, datetime, timedelta

from aura.tiers.planning.history import KEPT, Moment, extended
from aura.tiers.records import Tier


def moment(day, held, cost=1.0):
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day)
    return Moment(at, held, 10, 2 * cost, cost, cost / 2, 1e-6, None)


def test_the_history_goes_on_and_forgets_the_oldest():
    history = None
    for day in range(KEPT + 10):
        history = extended(history, moment(day, {Tier.L1: day, Tier.L3: 100}))
    assert history.num_rows == KEPT
    assert history["L1_bytes"].to_pylist() == list(range(10, KEPT + 10))
    assert history["L2_bytes"].null_count == KEPT
    assert history["at"].to_pylist() == sorted(history["at"].to_pylist())
