"""`aura top` and `aura report`.

Belongs here: options, and what is printed. Does not: what is shown.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from aura.settings import load_settings
from aura.terminal import AsJson, print_json, working

if TYPE_CHECKING:
    from aura.overview.sources import Sources

WIDTH = 160
"""Characters of a line where there is no terminal."""


def top(
    *,
    interval: Annotated[float, typer.Option(min=0.25, max=60, help="Seconds between two looks.")] = 1.0,
    window: Annotated[float, typer.Option(min=0.1, help="Minutes that the lines over time reach back.")] = 10.0,
    once: Annotated[bool, typer.Option("--once", help="Print the state once, and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show machine, tiers, events and assets, live in the whole terminal.

    Keys: q quits, p pauses, + and - change the interval. For example `aura top --interval 0.5 --window 30`, or
    `aura top --once` for a terminal that is none, or `aura top --json` for another program: both look once, and stop.

    The exit code of one look is 1 if something is damaged or does not answer; the reason stands in its place. It is 0
    if everything could be read, also where there is nothing yet, or no process owns the store.
    """
    from aura.overview.sources import Sources

    settings = load_settings()
    sources = Sources.of(settings)
    if as_json or once or not sys.stdout.isatty():
        _top_once(sources, as_json=as_json)
        return
    from aura.overview.top import Top

    Top(sources, str(settings.home), interval=interval, window=timedelta(minutes=window)).run()


def _top_once(sources: Sources, *, as_json: bool) -> None:
    from aura.overview.once import as_object, look_at, print_look

    with working("Reading ...") as tell:
        look = look_at(sources, tell)
    if as_json:
        print_json(as_object(look))
    else:
        print_look(look, Console() if sys.stdout.isatty() else Console(width=WIDTH))
    if unread := sources.unread(look.errors):
        typer.echo(f"Something could not be read; the reasons are given for {', '.join(unread)}.", err=True)
        raise typer.Exit(1)


def report(
    target: Annotated[Path, typer.Argument(help="The HTML file to write.")] = Path("aura-report.html"),
    *,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that exists.")] = False,
) -> None:
    """Write one HTML file with the state of all assets, their costs and pictures: to send to somebody, or to keep.

    For example `aura report monday.html`. The file loads nothing, and opens without a network.

    What is damaged or does not answer costs its section, which says so with the remedy; the rest is written. The exit
    code is 1 then. It is 0 if everything could be read, also where there is nothing yet.
    """
    from aura.overview.project import read_state
    from aura.overview.report import save_report, write_report

    if reason := _unusable(target, force=force):
        raise typer.BadParameter(reason, param_hint="TARGET")
    with working("Reading ...") as say:
        state = read_state(load_settings(), say)
    content = write_report(state)
    save_report(content, target)
    typer.echo(f"{target}, {len(content) / 2**20:.1f} MiB", err=True)
    if unread := state.unread():
        typer.echo(f"Something could not be read; the file has the reasons under {', '.join(unread)}.", err=True)
        raise typer.Exit(1)


def _unusable(target: Path, *, force: bool) -> str | None:
    """Why the report cannot be written there, with the remedy."""
    directory = target.resolve().parent
    if not directory.is_dir():
        return f"there is no directory {directory}: make it, or give another place"
    if target.is_dir():
        return f"{target} is a directory: give the name of a file in it, such as {target / 'aura-report.html'}"
    if target.exists() and not target.is_file():
        return f"{target} is no ordinary file: give the name of one"
    if not os.access(directory, os.W_OK | os.X_OK):
        return f"you may not write to {directory}: give another place"
    if target.exists() and not force:
        return f"{target} exists: give another name, or --force"
    return None
