"""A damaged file, a wrong directory: a clear error or a repaired read, never wrong data."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from aura.tiers.arena import SHARED_MEMORY
from aura.tiers.budgets import TierBudgets
from aura.tiers.errors import (
    CapacityError,
    CorruptObjectError,
    CorruptStoreError,
    ObjectNotFoundError,
    StorageError,
    StoreError,
    StoreUnavailableError,
)
from aura.tiers.owner import read_address
from aura.tiers.records import Tier
from aura.tiers.store import open_store

SMALL = TierBudgets(process_bytes=1 << 16, arena_bytes=1 << 16)
NO_ARENA = TierBudgets(process_bytes=1 << 16, arena_bytes=0)


def test_a_bad_copy_in_a_fast_tier_is_dropped_and_the_durable_one_read(tmp_path):
    with open_store(tmp_path, budgets=SMALL) as store:
        store.put("k", b"right" * 100)
        store.move({"k": Tier.L2})
        store.fast[Tier.L2]._arena.write(store.records["k"].slot, b"w")
        assert store.get("k") == b"right" * 100
        assert store.entries()[0].tier == Tier.L3
        assert {state.tier: state.used_bytes for state in store.tiers()}[Tier.L2] == 0


def test_a_damaged_header_is_reported_by_key_and_the_rest_is_readable(tmp_path):
    with open_store(tmp_path, budgets=SMALL) as store:
        store.write({"bad": b"1", "good": b"2"})
        store.disk._headers.put(b"bad", b"\0" * 32)
    with open_store(tmp_path, budgets=SMALL) as store:
        assert store.get("good") == b"2"
        assert store.contains("bad")
        with pytest.raises(CorruptObjectError, match="'bad'"):
            store.get("bad")
        store.put("bad", b"3")
        assert store.get("bad") == b"3"


def test_a_payload_that_was_changed_is_reported_by_key(tmp_path):
    with open_store(tmp_path, budgets=SMALL) as store:
        store.write({"bad": b"1234", "gone": b"1"})
        store.disk._payloads.put(b"bad", b"1235")
        store.disk._payloads.delete(b"gone")
        for key in ("bad", "gone"):
            with pytest.raises(CorruptObjectError, match=key):
                store.get(key)
            assert key in store.move({key: Tier.L2}).refused[0]


FILE_CLASSES = {
    "table": "rocksdb/*.sst",
    "write-ahead log": "rocksdb/*.log",
    "manifest": "rocksdb/MANIFEST-*",
    "current": "rocksdb/CURRENT",
    "options": "rocksdb/OPTIONS-*",
    "identity": "rocksdb/IDENTITY",
    "binding": "rocksdb/rocksdict-config.json",
    "info log": "rocksdb/LOG",
    "address": "owner.json",
}
"""Every kind of file in a store's directory that has bytes in it."""


@pytest.fixture(scope="module")
def killed_store():
    """A store whose owner died, with old and new values and deleted keys, in tables and in the log; and what it holds.

    It is in shared memory, since it is copied often.
    """
    rng = np.random.default_rng(5)
    old = {f"k{number:02d}": rng.bytes(int(rng.integers(1, 3000))) for number in range(20)}
    new = {key: rng.bytes(500) for key in list(old)[:8]}
    gone = list(old)[16:]
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None) as place:
        with open_store(Path(place) / "s", budgets=NO_ARENA) as store:
            store.write(old)
            store.get_many(old)
            store.write({}, gone[:2])
            for family in (store.disk._payloads, store.disk._headers, store.disk._system):
                family.flush()
            for key, value in new.items():
                store.put(key, value)
            store.write({}, gone[2:])
            shutil.copytree(Path(place) / "s", Path(place) / "killed")
        yield Path(place) / "killed", {key: new.get(key, old[key]) for key in old if key not in gone}, gone


def test_every_file_of_a_store_is_of_a_class_that_is_damaged_here(killed_store):
    directory, _, _ = killed_store
    known = {path for pattern in FILE_CLASSES.values() for path in directory.glob(pattern)}
    assert {path for path in directory.rglob("*") if path.is_file() and path.stat().st_size} == known
    assert all(list(directory.glob(pattern)) for pattern in FILE_CLASSES.values())


def damage_and_read(killed_store, bits_of):
    """What became of the store after each of some flipped bits: a count of outcomes."""
    directory, content, gone = killed_store
    copy = directory.with_name("damaged")
    found = Counter()
    for path, bit in bits_of(directory):
        shutil.copytree(directory, copy)
        victim = copy / path.relative_to(directory)
        raw = bytearray(victim.read_bytes())
        raw[bit // 8] ^= 1 << bit % 8
        victim.write_bytes(raw)
        found.update((path.name, bit, each) for each in read_back(copy, content, gone) - {"right", "reported"})
        found.update(["read"])
        shutil.rmtree(copy)
    return found


@pytest.mark.parametrize("kind", FILE_CLASSES)
@pytest.mark.parametrize("flips", [25, pytest.param(600, marks=pytest.mark.slow)])
def test_a_flipped_bit_in_any_file_never_gives_wrong_data(killed_store, kind, flips):
    def bits_of(directory):
        rng = np.random.default_rng(len(kind) + flips)
        paths = sorted(path for path in directory.glob(FILE_CLASSES[kind]) if path.stat().st_size)
        for number in range(flips):
            path = paths[number % len(paths)]
            yield path, int(rng.integers(8 * path.stat().st_size))

    assert damage_and_read(killed_store, bits_of) == {"read": flips}


@pytest.mark.parametrize("kind", ["write-ahead log", "manifest"])
def test_a_flipped_bit_in_a_frame_of_a_log_file_takes_nothing_back_and_ends(killed_store, kind):
    """A length that reaches past the end looks like a torn write; some types keep RocksDB reading for ever."""

    def bits_of(directory):
        (path,) = (path for path in directory.glob(FILE_CLASSES[kind]) if path.stat().st_size)
        for start in frames_of(path.read_bytes())[-3:]:
            for bit in range(8 * start + 32, 8 * start + 56):
                yield path, bit

    assert damage_and_read(killed_store, bits_of) == {"read": 72}


def frames_of(raw):
    """Where the records of a small log file begin."""
    starts, at = [], 0
    while at + 7 <= len(raw):
        starts.append(at)
        at += 7 + int.from_bytes(raw[at + 4 : at + 6], "little")
    return starts


def test_a_write_that_was_torn_is_left_out_and_all_before_it_is_there(killed_store, tmp_path):
    directory, content, gone = killed_store
    (path,) = (path for path in directory.glob(FILE_CLASSES["write-ahead log"]) if path.stat().st_size)
    last = frames_of(path.read_bytes())[-1]
    for length in (last + 3, last + 7, last + 20, path.stat().st_size - 1):
        shutil.copytree(directory, tmp_path / "torn")
        os.truncate(tmp_path / "torn" / "rocksdb" / path.name, length)
        with open_store(tmp_path / "torn", budgets=NO_ARENA) as store:
            assert {key: store.get(key) for key in content} == content
            # The last write deleted these.
            assert all(store.contains(key) for key in gone[2:])
        shutil.rmtree(tmp_path / "torn")


def read_back(directory, content, gone):
    """What became of the objects; a store that does not open has to name itself and the remedy."""
    try:
        store = open_store(directory, budgets=NO_ARENA)
    except (CorruptStoreError, StorageError) as error:
        return {"reported" if str(directory) in str(error) and error.remedy else str(error)}
    with store:
        back = {f"{key} is back" for key in gone if store.contains(key)}
        return back | {outcome(store, key, value) for key, value in content.items()}


def outcome(store, key, value):
    try:
        return "right" if store.get(key) == value else f"{key} came back wrong"
    except CorruptObjectError as error:
        return "reported" if error.key == key else str(error)
    except ObjectNotFoundError:
        return f"{key} is gone"


@pytest.mark.parametrize("seed", range(5))
def test_flipped_bits_in_the_shared_arena_never_reach_a_reader(tmp_path, seed):
    rng = np.random.default_rng(seed)
    content = {f"k{number}": rng.bytes(2000) for number in range(20)}
    arrays = {f"a{number}": rng.integers(0, 1 << 30, 300) for number in range(5)}
    with open_store(tmp_path, budgets=SMALL) as owner, open_store(tmp_path, budgets=SMALL) as client:
        owner.write(content | {key: {"x": array} for key, array in arrays.items()})
        assert not owner.move(dict.fromkeys([*content, *arrays], Tier.L2)).refused
        with Path(read_address(tmp_path).arena).open("r+b") as file:
            raw = np.frombuffer(file.read(), dtype=np.uint8).copy()
            for byte in rng.integers(0, 50_000, 40):
                raw[byte] ^= 1 << rng.integers(8)
            file.seek(0)
            file.write(raw.tobytes())
        first, second = (owner, client) if seed % 2 else (client, owner)
        for store in (first, second):
            for key, value in content.items():
                assert store.get(key) == value
            for key, array in arrays.items():
                np.testing.assert_array_equal(store.get(key)["x"], array)
        assert {entry.tier for entry in owner.entries()} == {Tier.L2, Tier.L3}


def read_as_client(directory):
    try:
        with open_store(directory, budgets=SMALL, timeout_seconds=0.05) as client:
            return "right" if client.get("k") == b"v" else "wrong"
    except StoreUnavailableError as error:
        return "reported" if str(directory) in str(error) and error.remedy else str(error)


def test_a_client_that_finds_a_damaged_address_says_so_or_is_right(tmp_path):
    with open_store(tmp_path, budgets=SMALL) as owner:
        owner.put("k", b"v")
        path = tmp_path / "owner.json"
        whole = path.read_bytes()
        for bit in range(0, 8 * len(whole), 61):
            raw = bytearray(whole)
            raw[bit // 8] ^= 1 << bit % 8
            path.write_bytes(raw)
            assert read_as_client(tmp_path) in ("right", "reported")


def test_a_directory_that_is_a_file_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError, match="Name a directory that this user may write to"):
            open_store(directory, budgets=SMALL)


def test_a_directory_that_may_not_be_written_is_refused(tmp_path):
    code = """
        import os, sys, tempfile
        from pathlib import Path
        import aura.tiers.remote
        from aura.tiers.errors import StorageError
        from aura.tiers.budgets import TierBudgets
        from aura.tiers.store import open_store
        tempfile.gettempdir()
        os.seteuid(65534)
        try:
            open_store(Path(sys.argv[1]), budgets=TierBudgets(arena_bytes=0))
        except StorageError as error:
            print(error)
    """
    if os.getuid() != 0:
        pytest.skip("needs root to become another user")
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:2]:
        parent.chmod(0o755)
    said = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), tmp_path], capture_output=True, text=True, check=True
    ).stdout
    assert "Permission denied" in said
    assert str(tmp_path) in said


def test_an_arena_that_does_not_fit_leaves_the_store_free(tmp_path):
    with pytest.raises(CapacityError, match="Lower arena_bytes"):
        open_store(tmp_path, budgets=TierBudgets(arena_bytes=1 << 50))
    with open_store(tmp_path, budgets=SMALL) as store:
        store.put("k", b"v")


def test_a_file_size_limit_is_an_error_and_what_was_acknowledged_stays(tmp_path):
    code = """
        import resource, signal, sys, os
        from pathlib import Path
        from aura.tiers.errors import StorageError
        from aura.tiers.budgets import TierBudgets
        from aura.tiers.store import open_store
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        store = open_store(Path(sys.argv[1]), budgets=TierBudgets(arena_bytes=0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))
        try:
            for number in range(100):
                store.put(f"k{number}", b"%d" % number * (1 << 18))
                print(number, flush=True)
        except StorageError as error:
            assert "Free space" in str(error), str(error)
            os._exit(0)
        os._exit(1)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    acknowledged = [int(line) for line in done.stdout.split()]
    assert acknowledged
    with open_store(tmp_path, budgets=SMALL) as store:
        for number in acknowledged:
            assert store.get(f"k{number}") == b"%d" % number * (1 << 18)


def test_errors_say_what_where_why_and_what_to_do():
    error = StoreError("It failed", path="/here", cause="no room.", remedy="Make room.")
    assert str(error) == "It failed (/here): no room. Make room."
