"""An outbox keeps what cannot be sent: bounded, in order, and through the death of whoever drains it."""

from __future__ import annotations

import itertools
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from aura.resilience.deadline import Deadline
from aura.resilience.outbox import ItemRefusedError, Outbox, OutboxError, OutboxFullError

PROCESS = Path(__file__).with_name("resilience_outbox_process.py")


def numbered(first: int, last: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, last)]


def test_items_are_sent_in_order_in_batches_and_then_forgotten(tmp_path: Path) -> None:
    batches: list[list[bytes]] = []
    with Outbox(tmp_path / "outbox.db", 100) as outbox:
        outbox.append(numbered(0, 3))
        outbox.append(numbered(3, 7))
        assert outbox.drain(lambda items: batches.append(list(items)), batch=4) == 7
        assert batches == [numbered(0, 4), numbered(4, 7)]
        assert len(outbox) == 0
        assert outbox.drain(batches.append) == 0


def test_the_bound_refuses_a_whole_append_and_says_what_to_do(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.db", 5) as outbox:
        outbox.append(numbered(0, 4))
        with pytest.raises(OutboxFullError, match=r"holds 4 items and takes at most 5: 2 more.*outbox_limit"):
            outbox.append(numbered(4, 6))
        outbox.append(numbered(4, 5))
        sent: list[bytes] = []
        outbox.drain(sent.extend)
        assert sent == numbered(0, 5)
        outbox.append(numbered(5, 10))


def test_what_a_failing_sender_did_not_take_stays_and_keeps_its_place(tmp_path: Path) -> None:
    sent: list[bytes] = []

    def breaks_at_the_second_batch(items: Sequence[bytes]) -> None:
        if sent:
            raise ConnectionError("gone")
        sent.extend(items)

    with Outbox(tmp_path / "outbox.db", 100) as outbox:
        outbox.append(numbered(0, 6))
        with pytest.raises(ConnectionError):
            outbox.drain(breaks_at_the_second_batch, batch=2)
        assert len(outbox) == 4
        outbox.append(numbered(6, 8))
        outbox.drain(sent.extend)
    assert sent == numbered(0, 8)


def test_an_item_that_can_never_be_sent_is_set_aside_and_stops_nothing(tmp_path: Path) -> None:
    sent: list[bytes] = []

    def refuses_three(items: Sequence[bytes]) -> None:
        for index, item in enumerate(items):
            if item == b"3":
                raise ItemRefusedError(index, "three is no number here")
            sent.append(item)

    with Outbox(tmp_path / "outbox.db", 6) as outbox:
        outbox.append(numbered(0, 6))
        assert outbox.drain(refuses_three, batch=5) == 5
        assert sent == [b"0", b"1", b"2", b"4", b"5"]
        assert [(r.item, r.reason) for r in outbox.refused()] == [(b"3", "three is no number here")]
        with pytest.raises(OutboxFullError):
            outbox.append(numbered(0, 6))
        assert outbox.forget_refused() == 1
        outbox.append(numbered(0, 6))


def test_the_age_is_that_of_the_oldest_item(tmp_path: Path) -> None:
    now = [1000.0]
    with Outbox(tmp_path / "outbox.db", 10, clock=lambda: now[0]) as outbox:
        assert outbox.oldest_age() is None
        outbox.append([b"first"])
        now[0] += 30
        outbox.append([b"second"])
        assert outbox.oldest_age() == 30


def test_items_outlive_the_process_that_appended_them(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom aura.resilience.outbox import Outbox\n"
        "Outbox(Path(sys.argv[1]), 10).append([b'a', b'b'])\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "outbox.db")], check=False, timeout=60)
    sent: list[bytes] = []
    with Outbox(tmp_path / "outbox.db", 10) as outbox:
        outbox.drain(sent.extend)
    assert sent == [b"a", b"b"]


@pytest.mark.slow
def test_a_drainer_killed_in_mid_drain_loses_nothing_and_keeps_the_order(tmp_path: Path) -> None:
    count, kills, chance = 4000, 12, random.Random(7)
    path, delivered = tmp_path / "outbox.db", tmp_path / "delivered"
    with Outbox(path, count) as outbox:
        outbox.append(numbered(0, count))
    killed = 0
    for _ in range(kills):
        process = start_drainer(path, count, delivered)
        begun = size(delivered)
        while size(delivered) == begun and process.poll() is None:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.06))
        process.kill()
        killed += process.wait(30) == -9
    assert killed >= kills // 2, "the drain was over before it could be killed: more items are needed"
    assert start_drainer(path, count, delivered).wait(60) == 0
    lines = [int(line) for line in delivered.read_bytes().split()]
    first_seen = list(dict.fromkeys(lines))
    assert first_seen == list(range(count))
    assert all(after <= before + 1 for before, after in itertools.pairwise(lines))
    with Outbox(path, count) as outbox:
        assert len(outbox) == 0


def start_drainer(path: Path, limit: int, delivered: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(PROCESS), str(path), str(limit), str(delivered), "10"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_of_several_drainers_one_sends_and_no_item_is_sent_twice_or_left(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    sent: list[bytes] = []
    senders_at_once, most = [0], [0]
    lock = threading.Lock()

    def send(items: Sequence[bytes]) -> None:
        with lock:
            senders_at_once[0] += 1
            most[0] = max(most[0], senders_at_once[0])
        sent.extend(items)
        with lock:
            senders_at_once[0] -= 1

    def append_and_drain(writer: int) -> None:
        with Outbox(path, 1000) as outbox:
            for number in range(20):
                outbox.append([b"%d:%d" % (writer, number)])
                outbox.drain(send, batch=3)

    threads = [threading.Thread(target=append_and_drain, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert most[0] == 1
    assert len(sent) == len(set(sent)) == 80
    for writer in range(4):
        own = [item for item in sent if item.startswith(b"%d:" % writer)]
        assert own == [b"%d:%d" % (writer, number) for number in range(20)]


def test_no_batch_begins_after_the_deadline(tmp_path: Path) -> None:
    now = [0.0]
    with Outbox(tmp_path / "outbox.db", 10) as outbox:
        outbox.append(numbered(0, 6))

        def slow(_: Sequence[bytes]) -> None:
            now[0] += 1.0

        assert outbox.drain(slow, batch=2, deadline=Deadline(1.5, lambda: now[0])) == 4
        assert len(outbox) == 2


def test_a_file_that_is_no_outbox_is_named(tmp_path: Path) -> None:
    (tmp_path / "outbox.db").write_bytes(b"not a database at all, but long enough to be read as one" * 20)
    with pytest.raises(OutboxError, match=r"outbox\.db cannot be opened"):
        Outbox(tmp_path / "outbox.db", 10)


def test_a_full_disk_is_said_and_keeps_what_was_there(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.db", 100_000) as outbox:
        outbox.append(numbered(0, 3))
        pages = outbox._connection.execute("PRAGMA page_count").fetchone()[0]
        outbox._connection.execute(f"PRAGMA max_page_count={pages + 2}")
        with pytest.raises(OutboxError, match=r"cannot be written: .*full"):
            outbox.append([bytes(100_000)])
        assert len(outbox) == 3
        outbox.append([b"3"])
        sent: list[bytes] = []
        outbox.drain(sent.extend)
        assert sent == numbered(0, 4)


def test_the_durability_of_an_append_is_that_of_the_disk(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.db", 1) as outbox:
        assert outbox._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert sqlite3.connect(tmp_path / "outbox.db").execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_numbers_are_never_given_twice_and_belong_to_one_outbox(tmp_path: Path) -> None:
    seen: list[int] = []
    for _ in range(2):
        with Outbox(tmp_path / "outbox.db", 10) as outbox:
            identity = outbox.identity
            outbox.append(numbered(0, 2))
            outbox.drain_numbered(lambda items: seen.extend(each.position for each in items))
    assert seen == [1, 2, 3, 4]
    with Outbox(tmp_path / "outbox.db", 10) as outbox, Outbox(tmp_path / "other.db", 10) as other:
        assert outbox.identity == identity != other.identity


def test_processes_that_open_a_new_outbox_at_once_all_get_it(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from aura.resilience.outbox import Outbox\n"
    code += "with Outbox(Path(sys.argv[1]), 10) as outbox: outbox.append([b'x']); print(outbox.identity)"
    command = [sys.executable, "-c", code, str(tmp_path / "outbox.db")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    identities = {process.communicate(timeout=60)[0] for process in processes}
    assert len(identities) == 1
    with Outbox(tmp_path / "outbox.db", 10) as outbox:
        assert len(outbox) == 4
