"""Values, rates and replays of a real store, seen through a client."""

from __future__ import annotations

import weakref
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from aura.overview.machine import GAP_SECONDS
from aura.overview.replays import FEWEST, own_trace, replayed, uploaded_trace
from aura.overview.stored import StoreView, TierSample, _continues
from aura.overview.values import ValueView
from aura.tiers.budgets import TierBudgets
from aura.tiers.catalog import Catalog
from aura.tiers.errors import StoreUnavailableError
from aura.tiers.published import CatalogError
from aura.tiers.records import Tier, TierState
from aura.tiers.replay.comparison import OPTIMUM, YARDSTICK
from aura.tiers.replay.readers import TraceError
from aura.tiers.store import open_store
from aura.topology.cycles import Cycle, CycleProvenance, RepresentativeCycles

SMALL = TierBudgets(process_bytes=1 << 20, arena_bytes=1 << 20)
PNG = b"\x89PNG"


def cycles(count):
    found = tuple(Cycle(1.0, 2.0, 3.0, exact=True, vertices=(0, 1, 2)) for _ in range(count))
    return RepresentativeCycles(found, CycleProvenance(points=3, metric="euclidean", bars=count))


def test_a_value_is_read_once_a_version(tmp_path):
    view = StoreView(tmp_path, 5)
    values = ValueView(view.joined, view.published)
    with open_store(tmp_path, budgets=SMALL) as owner:
        catalog = Catalog(owner)
        assert values.get("a", "p") is None
        catalog.publish("a", cycles(2), partition="p", provenance={})
        shown = values.get("a", "p")
        assert len(shown.value.cycles) == 2
        assert shown.pictures() == []
        gets = owner.access_log().total
        assert values.get("a", "p") is shown
        assert owner.access_log().total == gets
        catalog.publish("a", cycles(1), partition="p", provenance={})
        assert len(values.get("a", "p").value.cycles) == 1
        view.close()
    with pytest.raises(StoreUnavailableError):
        values.get("a", "p")


def test_values_stay_in_memory_within_a_budget_and_while_they_are_published(tmp_path):
    with open_store(tmp_path, budgets=SMALL) as store:
        catalog = Catalog(store)
        for name in ("a", "b", "c"):
            catalog.publish(name, cycles(2), partition="p", provenance={})
        values = ValueView(lambda: store, catalog.published, kept_bytes=2 * catalog.find("a", "p").bytes)
        held = {name: weakref.ref(values.get(name, "p")) for name in ("a", "b")}
        assert values.get("a", "p") is held["a"]()
        values.get("c", "p")
        assert held["a"]() is not None
        assert held["b"]() is None
        catalog.publish("a", cycles(1), partition="p", provenance={})
        values.get("c", "p")
        assert held["a"]() is None
        none = ValueView(lambda: store, catalog.published, kept_bytes=0)
        assert none.get("c", "p") is none.get("c", "p")
        last = weakref.ref(none.get("c", "p"))
        catalog.withdraw("c", "p")
        assert none.get("c", "p") is None
        assert last() is None


def test_rates_are_differences_between_looks(tmp_path):
    seconds = iter(range(100, 200, 2))
    view = StoreView(tmp_path, 5, lambda: next(seconds))
    with open_store(tmp_path, budgets=SMALL) as owner:
        owner.write({"k": b"v" * 100})
        view.tiers()
        assert view.rates(None) == []
        owner.move({"k": Tier.L1})
        owner.get_many(["k"] * 3)
        owner.move({"k": Tier.L3})
        owner.get("k")
        view.tiers()
        (rate,) = view.rates(None)
        assert (rate.gets, rate.hit_ratio, rate.seconds) == (4, 0.75, 2)
        assert (rate.promotions, rate.demotions, rate.bytes_moved >= 100) == (1, 1, True)
        view.tiers()
        assert view.rates(None)[-1].hit_ratio is None
        view.close()


def test_an_owner_that_has_counted_more_than_the_one_before_continues_nothing(tmp_path):
    seconds = iter(range(100, 200, 2))
    view = StoreView(tmp_path, 5, lambda: next(seconds))
    with open_store(tmp_path, budgets=SMALL) as owner:
        owner.write({"k": b"v"})
        owner.get("k")
        view.tiers()
        view.tiers()
        assert len(view.rates(None)) == 1
    with open_store(tmp_path, budgets=SMALL) as owner:
        owner.write({"k": b"v", "l": b"v"})
        owner.get_many(["k"] * 9)
        disk = view.tiers()[-1]
        assert (disk.state.gets, disk.recent_gets, disk.recent_seconds) == (9, 0, 0)
        assert view.rates(None) == []
        view.close()


COUNTED = dict.fromkeys(("gets", "get_seconds", "puts", "deletes", "promotions", "demotions", "bytes_in"), 5)
STATE = TierState(Tier.L1, capacity_bytes=100, used_bytes=10, objects=1, **COUNTED)


@pytest.mark.parametrize("name", COUNTED)
def test_a_counter_that_went_back_is_another_owners_and_what_is_held_may_shrink(name):
    def continues(**changes):
        before, now = (
            TierSample(at, datetime(2026, 11, 20, tzinfo=UTC), "owner", {Tier.L1: state})
            for at, state in ((0.0, STATE), (1.0, replace(STATE, **changes)))
        )
        return _continues(before, now)

    assert continues(used_bytes=0, objects=0)
    assert continues(**{name: 6})
    assert not continues(**{name: 0})


def test_nothing_is_told_of_the_time_in_which_nobody_looked(tmp_path):
    seconds = iter([0.0, 2.0, 4.0 + GAP_SECONDS, 6.0 + GAP_SECONDS])
    view = StoreView(tmp_path, 5, lambda: next(seconds))
    with open_store(tmp_path, budgets=SMALL) as owner:
        owner.write({"k": b"v"})
        view.tiers()
        view.tiers()
        owner.get_many(["k"] * 9)
        view.tiers()
        owner.get("k")
        view.tiers()
        assert [(rate.gets, rate.seconds) for rate in view.rates(None)] == [(0, 2), (1, 2)]
        view.close()


def test_the_log_of_a_store_is_replayed_with_the_sizes_of_its_objects(tmp_path):
    with open_store(tmp_path, budgets=SMALL) as owner:
        owner.write({f"k{number}": b"v" * (10 + number) for number in range(20)})
        with pytest.raises(TraceError, match=f"{FEWEST} are needed"):
            own_trace(owner)
        for number in np.random.default_rng(0).zipf(1.5, 2000) % 20:
            owner.get(f"k{number}")
        owner.delete("k1")
        trace = own_trace(owner)
    assert trace.unique <= 19
    assert set(trace.sizes.tolist()) <= set(range(10, 30)) - {11}
    parts: list[float] = []
    result = replayed(trace, lambda _said, part: parts.append(part))
    assert parts == sorted(parts)
    assert 0 == parts[0] < parts[-1] < 1
    assert {YARDSTICK, OPTIMUM} < {row.policy for row in result.rows}
    assert result.png.startswith(PNG)


def test_an_uploaded_trace_is_read_by_its_content(tmp_path):
    trace = uploaded_trace("\n".join(str(number % 7) for number in range(300)).encode(), "../mine.txt")
    assert (trace.name, len(trace), trace.unique) == ("mine", 300, 7)
    for name in ("..", "x" * 300, "a\0b.txt"):
        assert len(uploaded_trace(b"\n".join(b"%d" % (number % 7) for number in range(300)), name)) == 300
    with pytest.raises(TraceError):
        uploaded_trace(b"", "empty.txt")
    narrow = np.arange(300, dtype=">i4").tobytes()
    assert len(uploaded_trace(narrow, "keys.bin", "int32")) == 300
    assert len(uploaded_trace(narrow, "keys.bin", "int64")) == 150


def test_a_value_in_a_form_that_cannot_be_read_is_named_with_the_remedy(tmp_path, monkeypatch):
    view = StoreView(tmp_path, 5)
    with open_store(tmp_path, budgets=SMALL) as owner:
        Catalog(owner).publish("a", cycles(1), partition="p", provenance={})
        monkeypatch.setattr("aura.topology.cycles.SCHEMA", pa.schema([("birth", pa.float64())]))
        with pytest.raises(CatalogError, match=r"(?s)a.* was written in a form .*materialize it again"):
            ValueView(view.joined, view.published).get("a", "p")
        view.close()
