"""Published values on a real store: whole or not at all, by name and partition, as their type."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aura.tiers.blocks import BLOCK_BYTES, content_version, cut, join
from aura.tiers.budgets import TierBudgets
from aura.tiers.catalog import Catalog
from aura.tiers.planning.profile import COSTS, SAMPLES, SKIPPED, TierProfile
from aura.tiers.published import DamagedValueError, ValueNotPublishedError, ValueTypeError
from aura.tiers.records import Tier
from aura.tiers.store import open_store
from aura.tiers.tables import ValueSchemaError

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@dataclass(frozen=True, eq=False)
class Sample:
    """A value with a part of every kind; all its numbers are `number`, so that a mixture shows."""

    number: int
    rows: int = 40_000

    def to_parts(self):
        """Take apart."""
        return {
            "rows": pa.table({"number": np.full(self.rows, self.number, dtype=np.int64), "row": range(self.rows)}),
            "weights": {"a": np.full(1000, self.number, dtype=np.float32), "b": np.full((2, 3), self.number)},
            "raw": str(self.number).encode(),
        }

    @classmethod
    def from_parts(cls, parts):
        """Put together, if all parts are of one version."""
        numbers = set(parts["rows"]["number"].to_numpy()) | {int(parts["raw"])}
        numbers |= set(parts["weights"]["a"]) | set(parts["weights"]["b"].ravel())
        assert len(numbers) == 1, f"parts of several versions: {numbers}"
        assert parts["rows"]["row"].to_pylist() == list(range(parts["rows"].num_rows))
        return cls(int(numbers.pop()), parts["rows"].num_rows)


def small_profile(machine="a machine"):
    return TierProfile(COSTS.empty_table(), SAMPLES.empty_table(), SKIPPED.empty_table(), machine, rounds=1, seed=0)


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory):
    budgets = TierBudgets(process_bytes=1 << 22, arena_bytes=1 << 22)
    with open_store(tmp_path_factory.mktemp("store"), budgets=budgets) as store:
        yield store


@pytest.fixture
def store(shared_store):
    yield shared_store
    shared_store.write({}, [entry.key for entry in shared_store.entries()])


@pytest.fixture
def catalog(store):
    ticks = iter(range(10_000))
    return Catalog(store, clock=lambda: START + timedelta(seconds=next(ticks)))


def block_keys(store):
    return {entry.key for entry in store.entries("values/")}


def test_a_published_value_comes_back_as_its_type(catalog):
    published = catalog.publish("sample", Sample(7), partition="p", provenance={"source": "test"})
    assert catalog.load_as(Sample, "sample", "p").number == 7
    assert catalog.find("sample", "p") == published
    assert published.rows == 40_000
    assert published.provenance == {"source": "test"}
    assert published.created_at == "2026-01-02T03:04:05+00:00"


def test_a_type_of_this_package_is_imported_from_the_pointer(catalog):
    catalog.publish("profile", small_profile(), partition=None, provenance={})
    loaded = catalog.load("profile", None)
    assert isinstance(loaded, TierProfile)
    assert loaded.machine == "a machine"


def test_a_draft_knows_the_version_before_anything_is_written(catalog, store):
    draft = catalog.prepare(Sample(7))
    assert store.entries() == []
    published = catalog.publish("sample", draft, partition=None, provenance={})
    assert (published.version, published.rows, published.bytes) == (draft.version, draft.rows, draft.bytes)
    assert catalog.load_as(Sample, "sample", None).number == 7
    assert catalog.publish("sample", Sample(7), partition=None, provenance={}).version == draft.version


def test_tables_are_cut_into_blocks_that_placement_can_move(catalog, store):
    published = catalog.publish("sample", Sample(1), partition=None, provenance={})
    rows = [entry for entry in store.entries("values/sample/-/") if "/rows/" in entry.key]
    assert len(rows) == 3
    assert all(entry.bytes < 1.1 * BLOCK_BYTES for entry in rows)
    assert sum(entry.bytes for entry in store.entries("values/")) == published.bytes
    store.move({rows[0].key: Tier.L1, rows[1].key: Tier.L2})
    assert catalog.load_as(Sample, "sample", None).number == 1


def test_equal_content_keeps_its_version_and_its_places(catalog, store):
    first = catalog.publish("sample", Sample(1), partition=None, provenance={"run": "1"})
    store.move({first.keys[0]: Tier.L1})
    second = catalog.publish("sample", Sample(1), partition=None, provenance={"run": "2"})
    assert (second.version, second.keys) == (first.version, first.keys)
    assert catalog.find("sample", None).provenance == {"run": "2"}
    assert catalog.find("sample", None).created_at > first.created_at
    assert {entry.key: entry.tier for entry in store.entries("values/")}[first.keys[0]] is Tier.L1


def test_a_new_version_replaces_the_old_one_and_its_blocks(catalog, store):
    old = catalog.publish("sample", Sample(1), partition=None, provenance={})
    new = catalog.publish("sample", Sample(2), partition=None, provenance={})
    assert new.version != old.version
    assert catalog.load_as(Sample, "sample", None).number == 2
    assert block_keys(store) == set(new.keys)


def test_a_republished_value_has_the_version_of_its_original(catalog):
    first = catalog.publish("sample", Sample(3), partition=None, provenance={})
    again = catalog.publish("sample", catalog.load_as(Sample, "sample", None), partition=None, provenance={})
    assert again.version == first.version


@pytest.mark.parametrize("partition", [None, "-", "%2D", "a/b", "..", "über \n\0", "a", "\ud800"])
def test_partitions_of_any_characters_are_kept_apart(catalog, partition):
    everything = [None, "-", "%2D", "a/b", "..", "über \n\0", "a", "\ud800"]
    for number, each in enumerate(everything):
        catalog.publish("s", Sample(number, rows=1), partition=each, provenance={})
    assert catalog.load_as(Sample, "s", partition).number == everything.index(partition)
    assert {published.partition for published in catalog.published()} == set(everything)
    assert catalog.withdraw("s", partition)
    assert len(catalog.published()) == len(everything) - 1


@given(st.text(min_size=1), st.text(min_size=1), st.one_of(st.none(), st.text(min_size=1)))
@settings(max_examples=30, deadline=None)
def test_any_two_names_are_two_values(shared_store, name, other, partition):
    catalog = Catalog(shared_store)
    catalog.publish(name, Sample(1, rows=1), partition=partition, provenance={})
    if other != name:
        catalog.publish(other, Sample(2, rows=1), partition=partition, provenance={})
        catalog.withdraw(other, partition)
    assert catalog.load_as(Sample, name, partition).number == 1
    catalog.withdraw(name, partition)
    assert catalog.published() == []
    assert block_keys(shared_store) == set()


@pytest.mark.parametrize(("name", "partition"), [("", None), ("name", "")])
def test_an_empty_name_or_partition_is_refused(catalog, name, partition):
    with pytest.raises(ValueError, match="neither may be empty"):
        catalog.publish(name, Sample(1), partition=partition, provenance={})


def test_a_missing_value_says_what_there_is(catalog):
    with pytest.raises(ValueNotPublishedError, match=r"published are none\. Materialize the asset 'sample' first"):
        catalog.load("sample", None)
    catalog.publish("other", Sample(1, rows=1), partition="x", provenance={})
    with pytest.raises(ValueNotPublishedError, match="published are other"):
        catalog.load("sample", None)
    with pytest.raises(ValueNotPublishedError, match="its published partitions are x"):
        catalog.load("other", "y")
    assert catalog.find("sample", None) is None


def test_withdrawing_removes_the_value_and_its_blocks(catalog, store):
    catalog.publish("sample", Sample(1), partition=None, provenance={})
    assert catalog.withdraw("sample", None)
    assert not catalog.withdraw("sample", None)
    assert store.entries() == []


def test_a_type_from_elsewhere_is_not_imported_by_name(catalog):
    catalog.publish("sample", Sample(1), partition=None, provenance={})
    with pytest.raises(ValueTypeError, match="not of the package aura"):
        catalog.load("sample", None)


def test_another_type_than_the_published_one_is_refused(catalog):
    catalog.publish("sample", Sample(1), partition=None, provenance={})
    with pytest.raises(ValueTypeError, match="TierProfile"):
        catalog.load_as(TierProfile, "sample", None)


@pytest.mark.parametrize(
    ("type_name", "message"),
    [
        ("aura.tiers.nowhere:Thing", "cannot be imported"),
        ("aura.tiers.store:Tier", "has no from_parts"),
        ("aura.tiers.store:Missing", "has no from_parts"),
        ("auraevil.module:Thing", "not of the package aura"),
    ],
)
def test_a_pointer_to_an_unusable_type_is_a_clear_error(catalog, store, type_name, message):
    catalog.publish("profile", small_profile(), partition=None, provenance={})
    pointer = json.loads(store.get("pointers/profile/-"))
    store.put("pointers/profile/-", json.dumps(pointer | {"type_name": type_name}).encode())
    with pytest.raises(ValueTypeError, match=message):
        catalog.load("profile", None)


def test_local_types_and_odd_part_names_cannot_be_published(catalog):
    class Local(Sample):
        pass

    with pytest.raises(ValueTypeError, match="local to a function"):
        catalog.publish("sample", Local(1), partition=None, provenance={})
    with pytest.raises(ValueTypeError, match="a-z, 0-9 and -"):
        catalog.publish("sample", OddPart(), partition=None, provenance={})


class OddPart:
    """A value with a part name that no part may have."""

    def to_parts(self):
        """Take apart."""
        return {"a/b": b""}

    @classmethod
    def from_parts(cls, parts):
        """Put together."""
        return cls()


def test_parts_of_another_schema_are_refused_on_loading(catalog, store):
    published = catalog.publish("profile", small_profile(), partition=None, provenance={})
    key = next(key for key in published.keys if "/samples/" in key)
    store.put(key, pa.table({"other": [1]}))
    with pytest.raises(ValueSchemaError, match="samples"):
        catalog.load("profile", None)


def test_parts_that_a_type_refuses_in_its_own_words_name_the_value(catalog, store):
    published = catalog.publish("sample", Sample(1), partition="letters", provenance={})
    store.put(next(key for key in published.keys if "/raw/" in key), b"one")
    with pytest.raises(ValueSchemaError, match=r"'sample', partition 'letters',.*'one'.*materialize it again"):
        catalog.load_as(Sample, "sample", "letters")


def test_a_lost_block_is_reported_and_publishing_again_repairs_it(catalog, store):
    published = catalog.publish("sample", Sample(1), partition=None, provenance={})
    store.delete(published.keys[1])
    with pytest.raises(DamagedValueError, match=published.keys[1]):
        catalog.load_as(Sample, "sample", None)
    catalog.publish("sample", Sample(1), partition=None, provenance={})
    assert catalog.load_as(Sample, "sample", None).number == 1


@pytest.mark.parametrize("raw", [b"{", b"{}", b"[1]", b'{"parts": []}'])
def test_an_unreadable_pointer_is_reported_and_can_be_withdrawn(catalog, store, raw):
    store.put("pointers/sample/-", raw)
    with pytest.raises(DamagedValueError, match="pointers/sample/-"):
        catalog.find("sample", None)
    assert catalog.withdraw("sample", None)
    assert catalog.find("sample", None) is None


def test_the_damaged_are_those_whose_pointers_cannot_be_read(catalog, store):
    catalog.publish("sample", Sample(1), partition="a", provenance={})
    assert catalog.damaged(catalog.published()) == {}
    catalog.publish("late", Sample(1), partition=None, provenance={})
    store.put("pointers/sample/b", b"{")
    ((place, reason),) = catalog.damaged([]).items()
    assert place == ("sample", "b")
    assert "'pointers/sample/b' cannot be read" in reason
    assert "publish the value again" in reason


def test_sweeping_removes_only_what_no_pointer_names(catalog, store):
    published = catalog.publish("sample", Sample(1), partition=None, provenance={})
    store.write({"values/sample/-/dead/raw/000000": b"x", "values/gone/-/dead/raw/000000": b"y", "else/where": b"z"})
    assert catalog.sweep() == 2
    assert block_keys(store) == set(published.keys)
    assert store.contains("else/where")
    assert catalog.sweep() == 0


def test_publishing_again_removes_what_a_killed_publisher_of_the_value_left(catalog, store):
    store.write({"values/sample/-/dead/raw/000000": b"x"})
    published = catalog.publish("sample", Sample(1), partition=None, provenance={})
    assert block_keys(store) == set(published.keys)


def test_readers_see_one_version_or_the_other_while_publishers_replace_it(catalog, store):
    catalog.publish("sample", Sample(0, rows=20_000), partition=None, provenance={})
    stop = threading.Event()

    def read():
        seen = set()
        while not stop.is_set():
            seen.add(Catalog(store).load_as(Sample, "sample", None).number)
        return seen

    def publish(offset):
        for number in range(offset, offset + 30, 2):
            Catalog(store).publish("sample", Sample(number % 5, rows=20_000), partition=None, provenance={})

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for publisher in [pool.submit(publish, offset) for offset in range(2)]:
            publisher.result()
        stop.set()
        seen = set().union(*(reader.result() for reader in readers))
    assert len(seen) > 1
    assert block_keys(store) == set(catalog.find("sample", None).keys)


@given(st.integers(0, 3000), st.integers(1, 5), st.integers(1, 2000))
@settings(max_examples=40, deadline=None)
def test_cutting_and_joining_keeps_the_rows_whatever_the_chunks(rows, chunks, width):
    texts = [f"{row}" * (1 + row % width) if row % 7 else None for row in range(rows)]
    table = pa.table({"text": pa.array(texts, pa.large_string()), "row": pa.array(range(rows), pa.int64())})
    step = max(1, rows // chunks)
    chunked = pa.concat_tables([table.slice(at, step) for at in range(0, max(1, rows), step)])
    blocks = cut(table)
    assert join(blocks).equals(table)
    assert content_version({"t": blocks}) == content_version({"t": cut(chunked)})
    assert all(block.num_rows for block in blocks) or rows == 0


def test_the_version_depends_on_part_names_and_content():
    versions = {
        content_version(parts)[0]
        for parts in ({"a": [b"x"]}, {"b": [b"x"]}, {"a": [b"y"]}, {"a": [b"x", b""]}, {"a": [b"x"], "b": [b""]})
    }
    assert len(versions) == 5
