"""Those who only look on: a joined store never owns, says who should, and comes back with the next owner."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aura.tiers.budgets import TierBudgets
from aura.tiers.errors import StoreUnavailableError
from aura.tiers.local import LocalStore
from aura.tiers.records import Tier
from aura.tiers.store import join_store, open_store

SCRIPT = Path(__file__).with_name("store_process.py")
SMALL = TierBudgets(process_bytes=1 << 16, arena_bytes=1 << 16)


def owner_of(directory: Path) -> subprocess.Popen[str]:
    owner = subprocess.Popen(
        [sys.executable, SCRIPT, "own", directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout.readline() == "ready\n"
    return owner


def kill(owner: subprocess.Popen[str]) -> None:
    owner.kill()
    owner.communicate()


def test_a_store_without_an_owner_cannot_be_joined_and_nothing_is_made(tmp_path):
    with pytest.raises(StoreUnavailableError, match=r"no owner that answers.*Start one: `make up`.*`aura tiers serve`"):
        join_store(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with open_store(tmp_path / "left", budgets=SMALL):
        pass
    with pytest.raises(StoreUnavailableError, match="aura tiers serve"):
        join_store(tmp_path / "left")


def test_a_joined_store_reads_writes_and_moves_like_any_client(tmp_path):
    with open_store(tmp_path, budgets=SMALL) as owner, join_store(tmp_path, timeout_seconds=5) as joined:
        joined.put("k", b"v" * 1000)
        assert joined.move({"k": Tier.L2}).promoted == 1
        assert joined.get("k") == owner.get("k") == b"v" * 1000
        assert joined.tiers()[1].objects == 1


def test_a_joined_store_never_takes_over_and_follows_the_next_owner(tmp_path):
    first = owner_of(tmp_path)
    with join_store(tmp_path, timeout_seconds=5) as joined:
        joined.move({"from-owner": Tier.L2})
        assert joined.get("from-owner") == b"owner"
        kill(first)
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match="aura tiers serve"):
                joined.tiers()
        assert not joined.owns
        with open_store(tmp_path, budgets=SMALL) as second:
            assert isinstance(second, LocalStore)
            second.put("from-second", b"2" * 100)
            second.move({"from-second": Tier.L2})
            counted = second.tiers()[1].gets
            assert joined.get("from-second") == b"2" * 100
            assert joined.get("from-owner") == b"owner"
            assert second.tiers()[1].gets == counted, "read from the new owner's arena, without its help"
        with pytest.raises(StoreUnavailableError):
            joined.get("from-owner")


def test_a_copy_of_a_store_that_is_open_has_no_owner_of_its_own_yet(tmp_path):
    with open_store(tmp_path / "one", budgets=SMALL) as one:
        one.put("k", b"original")
        shutil.copytree(tmp_path / "one", tmp_path / "copy")
        with pytest.raises(StoreUnavailableError, match="aura tiers serve"):
            join_store(tmp_path / "copy")
        with join_store(tmp_path / "one", timeout_seconds=5) as joined:
            assert joined.get("k") == b"original"
