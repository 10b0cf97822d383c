"""A damaged file, a full disk, a wrong directory: a clear error or a repaired read, never wrong data."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from aura.tiers.errors import CapacityError, CorruptObjectError, CorruptStoreError, StorageError, StoreError
from aura.tiers.store import Tier, TierBudgets, open_store

SMALL = TierBudgets(process_bytes=1 << 16, arena_bytes=1 << 16)


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


@pytest.mark.parametrize("seed", range(12))
def test_a_flipped_bit_in_any_file_never_gives_wrong_data(tmp_path, seed):
    rng = np.random.default_rng(seed)
    content = {f"k{number}": rng.bytes(3000) for number in range(20)}
    with open_store(tmp_path, budgets=SMALL) as store:
        store.write(content)
        for key in content:
            store.get(key)
        if seed % 2:
            store.disk._payloads.flush()
            store.disk._headers.flush()
    files = [
        path for path in (tmp_path / "rocksdb").iterdir() if path.stat().st_size and path.suffix in (".sst", ".log")
    ]
    files += [path for path in (tmp_path / "rocksdb").iterdir() if path.name.startswith(("MANIFEST", "CURRENT"))]
    victim = sorted(files)[seed % len(files)]
    raw = bytearray(victim.read_bytes())
    bit = int(rng.integers(len(raw) * 8))
    raw[bit // 8] ^= 1 << bit % 8
    victim.write_bytes(raw)
    assert set(read_back(tmp_path, content)) <= {"right", "reported"}


def read_back(directory, content):
    """What became of each object; a store that does not open has to name itself and the remedy."""
    try:
        store = open_store(directory, budgets=SMALL)
    except (CorruptStoreError, StorageError) as error:
        return ["reported" if str(directory) in str(error) and error.remedy else str(error)]
    with store:
        return [outcome(store, key, value) for key, value in content.items()]


def outcome(store, key, value):
    try:
        return "right" if store.get(key) == value else f"{key} came back wrong"
    except CorruptObjectError as error:
        return "reported" if error.key == key else str(error)


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
        from aura.tiers.store import TierBudgets, open_store
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


FULL_DISK = """
    import os, subprocess, sys
    from pathlib import Path
    from aura.tiers.errors import StorageError
    from aura.tiers.store import TierBudgets, open_store
    place = Path(sys.argv[1])
    store = open_store(place / "s", budgets=TierBudgets(arena_bytes=1 << 20))
    count = 0
    try:
        while count < 100:
            store.write({f"a{count}": os.urandom(1 << 20), f"b{count}": b"mark"})
            count += 1
    except StorageError as error:
        assert "No space left" in str(error) and "Free space" in str(error), str(error)
    assert 0 < count < 100
    assert len(store.entries()) == 2 * count
    assert len(store.get(f"a{count - 1}")) == 1 << 20
    subprocess.run(["mount", "-o", "remount,size=200m", str(place)], check=True)
    import time
    for attempt in range(100):
        try:
            store.write({f"a{count}": b"later", f"b{count}": b"mark"})
            break
        except StorageError:
            time.sleep(0.1)
    store.close()
    with open_store(place / "s", budgets=TierBudgets(arena_bytes=1 << 20)) as store:
        assert len(store.entries()) == 2 * count + 2
        assert store.get(f"a{count}") == b"later"
        for number in range(count):
            assert len(store.get(f"a{number}")) == 1 << 20 and store.get(f"b{number}") == b"mark"
    print("held", count)
"""


@pytest.mark.slow
def test_a_full_disk_is_an_error_and_the_store_goes_on_when_there_is_room(tmp_path):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", tmp_path], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.strip()}")
    try:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(FULL_DISK), tmp_path], capture_output=True, text=True, check=False
        )
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("held ")


def test_a_file_size_limit_is_an_error_and_what_was_acknowledged_stays(tmp_path):
    code = """
        import resource, signal, sys, os
        from pathlib import Path
        from aura.tiers.errors import StorageError
        from aura.tiers.store import TierBudgets, open_store
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
