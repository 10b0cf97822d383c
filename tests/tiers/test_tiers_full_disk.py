"""A full disk is a clear error: reads go on, writes go on when there is room again, nothing acknowledged is lost."""

from __future__ import annotations

import textwrap

from small_disk import run_on_small_disk

PRELUDE = """
import logging, os, sys, time
from pathlib import Path
from aura.tiers.backup import back_up, restore, verify_backup, verify_store
from aura.tiers.errors import StorageError
from aura.tiers.budgets import TierBudgets
from aura.tiers.records import Tier
from aura.tiers.store import open_store

place = Path(sys.argv[1])
BUDGETS = TierBudgets(process_bytes=1 << 16, arena_bytes=1 << 16)
MIB = 1 << 20

def opened(directory):
    return open_store(directory, budgets=BUDGETS)

def content(number):
    return (b"%08d" % number) * (MIB // 8)

def fill(directory):
    "Take the rest of the disk, to the last block, with a file that `free` removes."
    with (directory / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass

def free(directory):
    (directory / "ballast").unlink()

def refused(act, *words):
    try:
        act()
    except StorageError as error:
        assert "No space left" in str(error), error
        for word in words:
            assert word in str(error), error
    else:
        raise AssertionError("it was not refused")

def until_it_works(act):
    "RocksDB looks for room itself, at its own times."
    for attempt in range(200):
        try:
            return act()
        except StorageError:
            time.sleep(0.1)
    return act()
"""


def test_writes_fail_clearly_reads_go_on_and_writes_go_on_when_there_is_room(tmp_path):
    code = """
    store = opened(place / "s")
    store.write({"first": content(0), "deleted": b"1"})
    store.delete("deleted")
    (place / "ballast").write_bytes(bytes(80 * MIB))
    count = 1
    try:
        while count < 100:
            store.write({f"a{count}": content(count), f"b{count}": b"mark"})
            count += 1
    except StorageError as error:
        assert "No space left" in str(error) and "Free space" in str(error), error
    assert 1 < count < 100, count
    refused(lambda: store.put("later", content(7)), "Free space")
    def check(store):
        assert {entry.key for entry in store.entries()} >= {"first"} | {f"a{n}" for n in range(1, count)}
        assert not store.contains("deleted") and not store.contains(f"a{count}")
        assert store.get("first") == content(0)
        for number in range(1, count):
            assert store.get(f"a{number}") == content(number) and store.get(f"b{number}") == b"mark"
    check(store)
    free(place)
    until_it_works(lambda: store.put("later", content(7)))
    check(store)
    store.close()
    with opened(place / "s") as store:
        check(store)
        assert store.get("later") == content(7)
    print("held", count)
    """
    assert run_on_small_disk(tmp_path, PRELUDE + textwrap.dedent(code), megabytes=104).startswith("held ")


def test_objects_move_between_the_tiers_while_the_disk_is_full(tmp_path):
    code = """
    with opened(place / "s") as store:
        store.write({f"k{number}": bytes([number]) * 1000 for number in range(10)})
        fill(place)
        for tier in (Tier.L1, Tier.L2, Tier.L3):
            report = store.move({f"k{number}": tier for number in range(10)})
            assert not report.refused, report
            assert all(store.get(f"k{number}") == bytes([number]) * 1000 for number in range(10))
        free(place)
    """
    run_on_small_disk(tmp_path, PRELUDE + textwrap.dedent(code), megabytes=96)


def test_the_access_log_goes_on_in_memory_and_is_saved_when_there_is_room(tmp_path):
    code = """
    warnings = []
    class Kept(logging.Handler):
        def emit(self, record):
            warnings.append(record.getMessage())
    logging.getLogger("aura.tiers").addHandler(Kept())
    store = opened(place / "s")
    store.put("k", b"v")
    fill(place)
    for number in range(5000):
        assert store.get("k") == b"v"
    assert len(store.access_log().ids) == store.access_log().total == 5000
    assert any("stays in memory only" in warning and "No space left" in warning for warning in warnings), warnings
    free(place)
    until_it_works(lambda: store.put("other", b"w"))
    for number in range(3000):
        store.get("k")
    assert store.access_log().total == 8000
    store.close()
    with opened(place / "s") as store:
        assert 2000 <= len(store.access_log().ids) <= 8000, len(store.access_log().ids)
        assert store.get("k") == b"v" and store.get("other") == b"w"
    """
    run_on_small_disk(tmp_path, PRELUDE + textwrap.dedent(code), megabytes=96)


def test_an_owner_that_died_on_a_full_disk_lost_nothing(tmp_path):
    code = """
    child = os.fork()
    if child == 0:
        store = opened(place / "s")
        store.write({"a": content(1), "b": content(2)})
        fill(place)
        refused(lambda: store.put("c", content(3)))
        os.kill(os.getpid(), 9)
    assert os.waitpid(child, 0)[1] == 9
    refused(lambda: opened(place / "s"), "Free space")
    free(place)
    with opened(place / "s") as store:
        assert store.get("a") == content(1) and store.get("b") == content(2)
        assert not store.contains("c")
        store.put("c", content(3))
    """
    run_on_small_disk(tmp_path, PRELUDE + textwrap.dedent(code))


def test_a_backup_to_a_full_disk_leaves_nothing_and_the_store_as_it_was(tmp_path):
    code = """
    home = Path(sys.argv[2])
    with opened(home / "s") as store:
        store.write({f"k{number}": content(number) for number in range(4)})
        fill(place)
        refused(lambda: back_up(store, place / "b"), "Cannot back up", "there is room")
        assert [path.name for path in place.iterdir()] == ["ballast"]
        store.put("more", b"1")
        free(place)
        assert back_up(store, place / "b").manifest.objects == 5
    """
    run_on_small_disk(_made(tmp_path / "disk"), PRELUDE + textwrap.dedent(code), tmp_path)


def test_a_backup_or_verification_of_a_store_on_a_full_disk_is_refused_clearly(tmp_path):
    code = """
    home = Path(sys.argv[2])
    with opened(place / "s") as store:
        store.write({f"k{number}": content(number) for number in range(4)})
        fill(place)
        refused(lambda: back_up(store, home / "b"))
        refused(lambda: verify_store(store))
        assert store.get("k3") == content(3)
        free(place)
        until_it_works(lambda: store.put("more", b"1"))
        assert back_up(store, home / "b").manifest.objects == 5
        assert not verify_store(store).corrupt
    """
    run_on_small_disk(_made(tmp_path / "disk"), PRELUDE + textwrap.dedent(code), tmp_path)


def test_a_restore_to_a_full_disk_leaves_the_old_store(tmp_path):
    code = """
    home = Path(sys.argv[2])
    with opened(home / "t") as store:
        store.write({f"k{number}": content(number) for number in range(4)})
        back_up(store, home / "b")
    with opened(place / "s") as store:
        store.put("old", b"1")
    fill(place)
    refused(lambda: restore(home / "b", place / "s", replace=True), "Cannot restore", "there is room")
    free(place)
    with opened(place / "s") as store:
        assert [entry.key for entry in store.entries()] == ["old"] and store.get("old") == b"1"
    restore(home / "b", place / "s", replace=True)
    with opened(place / "s") as store:
        assert store.get("k3") == content(3) and not store.contains("old")
    """
    run_on_small_disk(_made(tmp_path / "disk"), PRELUDE + textwrap.dedent(code), tmp_path)


def test_a_backup_on_a_disk_that_cannot_be_written_is_verified_and_restored(tmp_path):
    code = """
    import subprocess
    home = Path(sys.argv[2])
    with opened(home / "t") as store:
        store.write({f"k{number}": content(number) for number in range(4)})
        back_up(store, place / "b")
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    assert verify_backup(place / "b").objects == 4
    restore(place / "b", home / "s")
    with opened(home / "s") as store:
        assert store.get("k3") == content(3)
    """
    run_on_small_disk(_made(tmp_path / "disk"), PRELUDE + textwrap.dedent(code), tmp_path)


def _made(directory):
    directory.mkdir()
    return directory
