"""The commands `aura tiers`: look at the store, move objects, back up, restore, verify, replay a trace.

Belongs here: options, tables and JSON. Does not: what is done (the rest of `aura.tiers`), and `aura tiers serve`
(`aura.cli`), which also publishes events and so needs what is built on the tiers.

What only looks on, or changes what an owner holds in memory, joins the owner. What concerns the durable objects opens
the store, as its owner for the moment when it has none.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aura.settings import Settings, load_settings
from aura.terminal import AsJson, AsJsonLines, print_json, print_json_lines, working
from aura.tiers.backup import CopyReport, back_up, restore, verify_backup, verify_store
from aura.tiers.contents import Contents
from aura.tiers.errors import ObjectNotFoundError, StorageError
from aura.tiers.numa import memory_of
from aura.tiers.opening import open_configured_store
from aura.tiers.owner import read_address
from aura.tiers.records import Entry, Steered, Tier, TierState
from aura.tiers.replay.cli import tiers_replay
from aura.tiers.store import TieredStore, join_store

tiers_app = typer.Typer(no_args_is_help=True, help="The tiered store.")
tiers_app.command("replay")(tiers_replay)
console = Console()


@tiers_app.command("stat")
def tiers_stat(*, as_json: AsJsonLines = False) -> None:
    """Print what each tier holds and how fast it answered, as its owner sees it.

    For example `aura tiers stat --json`.
    """
    settings = load_settings()
    with _joined(settings) as store:
        states, steered = store.tiers(), store.steered()
        pool = _warm_pool(store.directory)
    if as_json:
        print_json_lines(_stat_row(state, pool) for state in states)
        if steered is not None:
            print_json({"online": asdict(steered)})
        return
    table = Table("tier", "", "objects", "MiB", "of MiB", "gets", "get us", "up", "down")
    for state in states:
        mean = _mean_get_seconds(state)
        table.add_row(
            state.tier,
            state.tier.label,
            str(state.objects),
            f"{state.used_bytes / 2**20:.1f}",
            "disk" if state.capacity_bytes is None else f"{state.capacity_bytes / 2**20:.1f}",
            str(state.gets),
            "" if mean is None else f"{1e6 * mean:.2f}",
            str(state.promotions),
            str(state.demotions),
        )
    console.print(table)
    console.print(_said_of_online(steered), soft_wrap=True)
    if any(state.tier == Tier.L2 for state in states):
        console.print(f"The warm pool is in {pool}.", soft_wrap=True)


def _said_of_online(steered: Steered | None) -> str:
    if steered is None:
        return "The online layer is off: objects move when a placement or a command says so."
    said = f"The online layer follows {steered.following} ({steered.switches} changes, {steered.reads:,} reads)."
    if steered.short_of_cycle is not None:
        budget, cycle = (f"{size / 2**20:,.1f} MiB" for size in steered.short_of_cycle)
        said += f" Fast memory has {budget}, less than the {cycle} that are read in turn."
    return said


@tiers_app.command("ls")
def tiers_ls(
    prefix: Annotated[str, typer.Argument(help="Start of the keys.")] = "",
    *,
    tier: Annotated[Tier | None, typer.Option(case_sensitive=False, help="Only what lives in this tier.")] = None,
    as_json: AsJsonLines = False,
) -> None:
    """List objects with their size and the fastest tier that holds them.

    For example `aura tiers ls experts/ --tier L1`.
    """
    with _opened(load_settings()) as store:
        entries = [entry for entry in store.entries(prefix) if tier in (None, entry.tier)]
    if as_json:
        print_json_lines(asdict(entry) for entry in entries)
        return
    table = Table("key", "kind", "KiB", "tier")
    for entry in entries:
        pinned = ", pinned" if entry.pinned else ""
        table.add_row(escape(entry.key), entry.kind, f"{entry.bytes / 1024:.1f}", f"{entry.tier}{pinned}")
    console.print(table)
    console.print(_amount(len(entries), sum(entry.bytes for entry in entries)))


@tiers_app.command("move")
def tiers_move(
    key: Annotated[str, typer.Argument(help="Key of an object; else the start of the keys of several.")],
    tier: Annotated[Tier, typer.Argument(case_sensitive=False, help="Where to.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Bring objects to a tier of the running owner.

    For example `aura tiers move experts/ L1`. The exit code is 1 if all of them are refused.
    """
    with _joined(load_settings()) as store, working("Moving ..."):
        targets = [entry.key for entry in _named(store, key)]
        report = store.move(dict.fromkeys(targets, tier))
    if as_json:
        print_json(asdict(report))
    else:
        console.print(
            f"{report.promoted} promoted, {report.demoted} demoted, {report.bytes_moved / 2**20:.1f} MiB copied in"
            f" {report.seconds:.2f} s"
        )
        for refused, reason in report.refused:
            console.print(f"{escape(refused)} stays: {escape(reason)}", soft_wrap=True)
    if len(report.refused) == len(targets):
        raise typer.Exit(1)


@tiers_app.command("backup")
def tiers_backup(
    target: Annotated[Path, typer.Argument(help="Directory to make; on any file system.")], *, as_json: AsJson = False
) -> None:
    """Copy the durable objects to a new directory and verify the copy; the store stays in use.

    For example `aura tiers backup /mnt/backups/monday`.
    """
    with _opened(load_settings()) as store, working("Copying ...") as tell:
        report = back_up(store, target, tell=tell)
    _print_copy("Backed up", report, as_json=as_json)


@tiers_app.command("restore")
def tiers_restore(
    backup: Annotated[Path, typer.Argument(help="Directory that `aura tiers backup` made.")],
    *,
    replace: Annotated[bool, typer.Option("--replace", help="Also if the store holds objects; they are gone then.")] = (
        False
    ),
    as_json: AsJson = False,
) -> None:
    """Put a backup in the place of the store, verified before and after. Nobody may use the store meanwhile.

    For example `aura tiers restore /mnt/backups/monday`; with `--replace` if the store holds objects.
    """
    directory = load_settings().store_directory
    with working("Verifying ...") as tell:
        report = restore(backup, directory, replace=replace, tell=tell)
    _print_copy("Restored", report, as_json=as_json)


@tiers_app.command("verify")
def tiers_verify(
    backup: Annotated[Path | None, typer.Argument(help="A backup (none: the store).")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Read every durable object and verify its checksum.

    For example `aura tiers verify`, or `aura tiers verify /mnt/backups/monday`. The exit code is 1 if any is corrupt.
    """
    with working("Reading ...") as tell:
        if backup is None:
            with _opened(load_settings()) as store:
                contents = verify_store(store, tell)
        else:
            contents = verify_backup(backup, tell)
    if as_json:
        print_json(asdict(contents))
    else:
        _print_contents(contents)
    if contents.corrupt:
        raise typer.Exit(1)


def _opened(settings: Settings) -> TieredStore:
    if not settings.store_directory.is_dir():
        raise StorageError("There is no store yet", path=str(settings.store_directory), remedy="`make demo` makes it.")
    return open_configured_store(settings)


def _joined(settings: Settings) -> TieredStore:
    return join_store(settings.store_directory, timeout_seconds=settings.tiers.timeout_seconds)


def _named(store: TieredStore, key: str) -> list[Entry]:
    """The object of this key, else all whose key begins so.

    Raises:
        ObjectNotFoundError: There is none.
    """
    entries = store.entries(key)
    if not entries:
        raise ObjectNotFoundError(
            f"There is no object {key!r}, nor one whose key begins so", key=key, remedy="`aura tiers ls` lists them."
        )
    return entries[:1] if entries[0].key == key else entries


def _warm_pool(directory: Path) -> str:
    """What L2 is made of: the owner's address names its arena, if it has one."""
    address = read_address(directory)
    return memory_of(Path(address.arena)) if address and address.arena else "Redis"


def _mean_get_seconds(state: TierState) -> float | None:
    return state.get_seconds / state.gets if state.gets and state.get_seconds is not None else None


def _stat_row(state: TierState, pool: str) -> dict[str, Any]:
    row = asdict(state) | {"label": state.tier.label, "mean_get_seconds": _mean_get_seconds(state)}
    return row | {"memory": pool} if state.tier == Tier.L2 else row


def _print_copy(done: str, report: CopyReport, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(report) | {"path": str(report.path)})
        return
    amount = _amount(report.manifest.objects, report.manifest.bytes)
    console.print(
        f"{done}: {amount}, all verified; {report.file_bytes / 2**20:.1f} MiB of files in {report.seconds:.2f} s."
        f" {escape(str(report.path))}",
        soft_wrap=True,
    )


def _print_contents(contents: Contents) -> None:
    for each in contents.corrupt:
        console.print(f"{escape(each.key)}: {escape(each.reason)}", soft_wrap=True)
    corrupt = f"{len(contents.corrupt)} corrupt" if contents.corrupt else "none corrupt"
    console.print(f"{_amount(contents.objects, contents.bytes)} as they were written, {corrupt}")


def _amount(objects: int, size: int) -> str:
    return f"{objects} object{'' if objects == 1 else 's'}, {size / 2**20:.1f} MiB"
