"""A backup holds what the store held, verified; a restore puts it in the place of a store that nobody uses."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from aura.tiers.arena import SHARED_MEMORY
from aura.tiers.backup import ASIDE, CHECKPOINT, MANIFEST, back_up, restore, verify_backup, verify_store
from aura.tiers.budgets import TierBudgets
from aura.tiers.catalog import Catalog
from aura.tiers.errors import CorruptStoreError, StorageError, StoreError, StoreUnavailableError
from aura.tiers.local import DATABASE
from aura.tiers.records import Tier
from aura.tiers.store import open_store

SCRIPT = Path(__file__).with_name("store_process.py")
SMALL = TierBudgets(process_bytes=1 << 16, arena_bytes=1 << 16)


def opened(directory):
    return open_store(directory, budgets=SMALL)


def some_objects(seed, count=30):
    rng = np.random.default_rng(seed)
    return {f"k{number:03d}": rng.bytes(int(rng.integers(0, 4000))) for number in range(count)}


def filled(directory, objects):
    with opened(directory) as store:
        store.write(objects)
    return directory


def read_all(directory):
    with opened(directory) as store:
        return {entry.key: store.get(entry.key) for entry in store.entries()}


def flip_in_payload(directory, payload):
    """Flip one bit of this payload where it is in a file of the database; a few bytes of it identify it."""
    for path in sorted((directory / DATABASE).iterdir()):
        raw = bytearray(path.read_bytes())
        at = raw.find(payload[:64])
        if at >= 0:
            raw[at + 10] ^= 4
            path.write_bytes(raw)
            return
    raise AssertionError("no file has these bytes")


def test_a_restored_store_holds_every_object_of_every_kind_with_its_id_and_the_access_log(tmp_path):
    table = pa.table({"a": [1, 2, 3]})
    with opened(tmp_path / "s") as store:
        store.write({"bytes": b"1", "empty": b"", "table": table, "tensors": {"x": np.arange(5, dtype=np.float32)}})
        store.move({"table": Tier.L1, "bytes": Tier.L2})
        store.get_many(["bytes", "table", "bytes"])
        before, ids = store.entries(), store.access_log().ids.tolist()
        report = back_up(store, tmp_path / "b")
        store.put("later", b"not in the backup")
    assert report.manifest.objects == 4
    assert report.manifest.bytes == sum(entry.bytes for entry in before)
    assert report.file_bytes == sum(path.stat().st_size for path in (tmp_path / "b" / DATABASE).iterdir())
    restored = restore(tmp_path / "b", tmp_path / "new")
    assert restored.manifest == report.manifest
    with opened(tmp_path / "new") as store:
        assert [(entry.key, entry.id, entry.bytes) for entry in store.entries()] == [
            (entry.key, entry.id, entry.bytes) for entry in before
        ]
        assert store.access_log().ids.tolist() == ids
        assert store.get("bytes") == b"1"
        assert store.get("empty") == b""
        assert store.get("table") == table
        np.testing.assert_array_equal(store.get("tensors")["x"], np.arange(5, dtype=np.float32))


@dataclass(frozen=True)
class Measured:
    """A value of several parts and blocks."""

    rows: pa.Table
    weights: np.ndarray

    def to_parts(self):
        return {"rows": self.rows, "weights": {"w": self.weights}}

    @classmethod
    def from_parts(cls, parts):
        return cls(parts["rows"], parts["weights"]["w"])


def test_a_published_value_loads_after_a_restore(tmp_path):
    value = Measured(pa.table({"a": np.arange(200_000), "b": ["x"] * 200_000}), np.linspace(0, 1, 50_000))
    with opened(tmp_path / "s") as store:
        published = Catalog(store).publish("measured", value, partition="p", provenance={"from": "a test"})
        back_up(store, tmp_path / "b")
        Catalog(store).withdraw("measured", "p")
    restore(tmp_path / "b", tmp_path / "s", replace=True)
    with opened(tmp_path / "s") as store:
        loaded = Catalog(store).load_as(Measured, "measured", "p")
        assert Catalog(store).find("measured", "p") == published
        assert loaded.rows == value.rows
        np.testing.assert_array_equal(loaded.weights, value.weights)


def test_a_client_backs_up_a_running_owner_to_a_relative_path(tmp_path, monkeypatch):
    process = subprocess.Popen(
        [sys.executable, SCRIPT, "own", tmp_path / "s"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    monkeypatch.chdir(tmp_path)
    try:
        assert process.stdout.readline() == "ready\n"
        with opened(tmp_path / "s") as client:
            assert not client.owns
            report = back_up(client, Path("below") / "b")
            assert verify_store(client).objects == 1
            client.put("more", b"1")
    finally:
        process.communicate()
    assert report.path == tmp_path / "below" / "b"
    restore(Path("below") / "b", Path("new"))
    assert read_all(tmp_path / "new") == {"from-owner": b"owner"}


def test_a_backup_made_while_others_write_holds_every_batch_whole(tmp_path):
    written, stop = threading.Event(), threading.Event()

    def write_pairs(store):
        for number in itertools.count():
            content = bytes([number % 251]) * (1 + 997 * number % 5000)
            store.write({f"left/{number % 50:06d}": content, f"right/{number % 50:06d}": content})
            if number == 60:
                written.set()
            if stop.is_set():
                return

    with opened(tmp_path / "s") as store, opened(tmp_path / "s") as client:
        writer = threading.Thread(target=write_pairs, args=(store,))
        writer.start()
        try:
            assert written.wait(60)
            for name in ("b", "c", "d"):
                back_up(client, tmp_path / name)
        finally:
            stop.set()
            writer.join()
    for name in ("b", "c", "d"):
        restore(tmp_path / name, tmp_path / f"new-{name}")
        content = read_all(tmp_path / f"new-{name}")
        assert len(content) == 100
        assert all(content[f"left/{number:06d}"] == content[f"right/{number:06d}"] for number in range(50))


def test_a_backup_shares_no_file_with_the_store_and_leaves_nothing_in_it(tmp_path):
    objects = some_objects(1)
    with opened(tmp_path / "s") as store:
        store.write(objects)
        back_up(store, tmp_path / "b")
        assert not (tmp_path / "s" / CHECKPOINT).exists()
        own = {path.stat().st_ino for path in (tmp_path / "s" / DATABASE).iterdir()}
        assert own.isdisjoint(path.stat().st_ino for path in (tmp_path / "b" / DATABASE).iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "s"]


def test_a_backup_goes_to_another_file_system_and_comes_back(tmp_path):
    if not SHARED_MEMORY.is_dir() or SHARED_MEMORY.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    objects = some_objects(2)
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as other:
        with opened(tmp_path / "s") as store:
            store.write(objects)
            back_up(store, Path(other) / "b")
        assert verify_backup(Path(other) / "b").objects == len(objects)
        restore(Path(other) / "b", tmp_path / "new")
    assert read_all(tmp_path / "new") == objects


def test_who_asks_is_told_how_far_a_copy_has_come(tmp_path):
    told = []

    def tell(said, part):
        told.append((said.split()[0], part))

    with opened(tmp_path / "s") as store:
        store.write({f"k{number}": b"1" for number in range(600)})
        back_up(store, tmp_path / "b", tell=tell)
        verify_store(store, tell)
    restore(tmp_path / "b", tmp_path / "new", tell=tell)
    phases = [word for word, _ in itertools.groupby(word for word, _ in told)]
    assert phases == ["Copying", "Verifying", "Copying", "Verifying"]
    assert [part for word, part in told if word == "Verifying"][:3] == [0, 256 / 600, 512 / 600]
    assert all(0 <= part <= 1 for _, part in told)


def test_verifying_a_backup_changes_nothing_in_it(tmp_path):
    with opened(tmp_path / "s") as store:
        store.write(some_objects(3))
        back_up(store, tmp_path / "b")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "b").rglob("*")}
    assert not verify_backup(tmp_path / "b").corrupt
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "b").rglob("*")} == before


@pytest.mark.parametrize("way", ["owner", "client"])
def test_verifying_a_store_names_every_corrupt_object_and_the_remedy(tmp_path, way):
    objects = some_objects(4)
    with opened(tmp_path) as owner, opened(tmp_path) as client:
        store = owner if way == "owner" else client
        store.write(objects)
        assert verify_store(store).corrupt == ()
        owner.disk._payloads.put(b"k003", b"changed")
        owner.disk._payloads.delete(b"k007")
        owner.disk._headers.put(b"k011", b"\0" * 32)
        contents = verify_store(store)
        assert [each.key for each in contents.corrupt] == ["k003", "k007", "k011"]
        assert all("rite it again" in each.reason for each in contents.corrupt)
        assert contents.objects == len(objects) - 3
        assert store.get("k000") == objects["k000"]
        assert not (tmp_path / CHECKPOINT).exists()


def test_a_store_with_a_corrupt_object_is_not_backed_up(tmp_path):
    with opened(tmp_path / "s") as store:
        store.write(some_objects(5))
        store.disk._payloads.put(b"k003", b"changed")
        with pytest.raises(CorruptStoreError, match=r"'k003'.*delete them"):
            back_up(store, tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_flipped_bit_in_a_backup_is_found_and_nothing_is_restored(tmp_path):
    old, new = some_objects(6), some_objects(7)
    filled(tmp_path / "s", old)
    with opened(tmp_path / "t") as store:
        store.write(new)
        back_up(store, tmp_path / "b")
    flip_in_payload(tmp_path / "b", new["k005"])
    assert "k005" in [each.key for each in verify_backup(tmp_path / "b").corrupt]
    with pytest.raises(CorruptStoreError, match="Restore another backup"):
        restore(tmp_path / "b", tmp_path / "s", replace=True)
    assert read_all(tmp_path / "s") == old


def test_every_flipped_bit_in_a_backup_is_found_or_harmless(tmp_path):
    """All bits behind a payload, where a table says how its block is laid out, and some anywhere in every file."""
    objects = some_objects(16)
    with opened(tmp_path / "s") as store:
        store.write(objects)
        back_up(store, tmp_path / "b")
    whole = verify_backup(tmp_path / "b")
    flips = []
    rng = np.random.default_rng(17)
    for path in sorted((tmp_path / "b").rglob("*")):
        size = path.stat().st_size if path.is_file() else 0
        flips += [(path, int(bit)) for bit in rng.integers(0, 8 * size, 30 if size else 0)]
        at = path.read_bytes().find(objects["k005"]) if size else -1
        if at >= 0:
            end = at + len(objects["k005"])
            flips += [(path, bit) for bit in range(8 * end, 8 * (end + 40))]
    assert len(flips) > 400
    found = Counter()
    for path, bit in flips:
        raw = bytearray(path.read_bytes())
        raw[bit // 8] ^= 1 << bit % 8
        path.write_bytes(raw)
        try:
            contents = verify_backup(tmp_path / "b")
            found["corrupt" if contents.corrupt else "harmless" if contents == whole else f"{path} {bit}"] += 1
        except StoreError as error:
            found["refused" if str(tmp_path / "b") in str(error) else str(error)] += 1
        raw[bit // 8] ^= 1 << bit % 8
        path.write_bytes(raw)
    assert found.keys() == {"corrupt", "refused", "harmless"}


def test_a_backup_that_holds_something_else_than_its_manifest_says_is_refused(tmp_path):
    with opened(tmp_path / "s") as store:
        store.write(some_objects(8))
        back_up(store, tmp_path / "b")
    with opened(tmp_path / "b") as store:
        store.put("k005", b"written into the backup")
    for act in (verify_backup, lambda backup: restore(backup, tmp_path / "new")):
        with pytest.raises(CorruptStoreError, match=r"not what the manifest of the backup says.*expected 30 objects"):
            act(tmp_path / "b")
    assert not (tmp_path / "new").exists()


def test_a_directory_without_a_manifest_or_with_a_wrong_one_is_no_backup(tmp_path):
    with pytest.raises(StoreError, match=r"is no backup.*`aura tiers backup` made"):
        verify_backup(tmp_path / "nowhere")
    with opened(tmp_path / "s") as store:
        store.put("k", b"v")
        back_up(store, tmp_path / "b")
    manifest = tmp_path / "b" / MANIFEST
    fields = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(fields | {"format": 2}))
    with pytest.raises(StoreError, match="format is 2, expected 1"):
        verify_backup(tmp_path / "b")
    for text in ("{", "[]", "{}"):
        manifest.write_text(text)
        with pytest.raises(CorruptStoreError, match=f"{MANIFEST} cannot be read"):
            verify_backup(tmp_path / "b")


def test_a_backup_never_replaces_what_is_there(tmp_path):
    (tmp_path / "b").mkdir()
    with opened(tmp_path / "s") as store, pytest.raises(StoreError, match=r"it exists.*Name a directory that does not"):
        back_up(store, tmp_path / "b")


def test_two_backups_of_a_store_do_not_mix(tmp_path):
    with opened(tmp_path / "s") as store, opened(tmp_path / "s") as other:
        store.put("k", b"v")
        from aura.tiers import backup

        with (
            backup._checkpoint(store),
            pytest.raises(StoreUnavailableError, match=r"under way.*Wait until it is done"),
        ):
            back_up(other, tmp_path / "b")
        back_up(other, tmp_path / "b")


def test_a_store_in_use_is_not_replaced(tmp_path):
    with opened(tmp_path / "s") as store:
        store.put("k", b"v")
        back_up(store, tmp_path / "b")
        with pytest.raises(StoreUnavailableError, match=r"has an owner.*`aura tiers serve`"):
            restore(tmp_path / "b", tmp_path / "s", replace=True)
        assert store.get("k") == b"v"


def test_only_replace_takes_the_place_of_objects(tmp_path):
    old, new = some_objects(9), some_objects(10)
    filled(tmp_path / "s", old)
    with opened(tmp_path / "t") as store:
        store.write(new)
        back_up(store, tmp_path / "b")
    with pytest.raises(StoreError, match=r"not empty.*--replace"):
        restore(tmp_path / "b", tmp_path / "s")
    assert read_all(tmp_path / "s") == old
    restore(tmp_path / "b", tmp_path / "s", replace=True)
    assert read_all(tmp_path / "s") == new
    assert not list((tmp_path / "s").glob(f"{ASIDE}*"))


def test_an_empty_store_needs_no_replace_and_a_broken_one_does(tmp_path):
    objects = some_objects(11)
    filled(tmp_path / "empty", {})
    filled(tmp_path / "broken", objects)
    (tmp_path / "broken" / DATABASE / "CURRENT").write_text("MANIFEST-999999\n")
    with opened(tmp_path / "t") as store:
        store.write(objects)
        back_up(store, tmp_path / "b")
    restore(tmp_path / "b", tmp_path / "empty")
    assert read_all(tmp_path / "empty") == objects
    with pytest.raises(StoreError, match="--replace"):
        restore(tmp_path / "b", tmp_path / "broken")
    restore(tmp_path / "b", tmp_path / "broken", replace=True)
    assert read_all(tmp_path / "broken") == objects


def test_a_place_that_may_not_be_written_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with opened(tmp_path / "s") as store:
        store.put("k", b"v")
        with pytest.raises(StorageError, match=r"Cannot back up.*Not a directory.*may write there"):
            back_up(store, tmp_path / "file" / "b")
        back_up(store, tmp_path / "b")
    with pytest.raises(StorageError, match=r"Cannot restore.*may write there"):
        restore(tmp_path / "b", tmp_path / "file" / "s")


def test_a_file_system_that_cannot_exchange_directories_is_said_with_the_remedy(tmp_path, monkeypatch):
    """EINVAL is what the system call answers for a flag that the file system lacks."""
    filled(tmp_path / "s", {"k": b"old"})
    with opened(tmp_path / "t") as store:
        store.put("k", b"new")
        back_up(store, tmp_path / "b")
    monkeypatch.setattr("aura.tiers.backup._RENAME_EXCHANGE", 1 << 30)
    with pytest.raises(StorageError, match="cannot exchange directories: move"):
        restore(tmp_path / "b", tmp_path / "s", replace=True)
    assert read_all(tmp_path / "s") == {"k": b"old"}
    assert not list((tmp_path / "s").glob(f"{ASIDE}*"))
    (tmp_path / "s" / DATABASE).rename(tmp_path / "away")
    restore(tmp_path / "b", tmp_path / "s")
    assert read_all(tmp_path / "s") == {"k": b"new"}
