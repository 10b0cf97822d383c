"""`aura top` and `aura report`.

Belongs here: options, and what is printed. Does not: what is shown.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from aura.settings import load_settings
from aura.terminal import working

WIDTH = 160
"""Characters of a line where there is no terminal."""


def top(
    *,
    interval: Annotated[float, typer.Option(min=0.25, max=60, help="Seconds between two looks.")] = 1.0,
    window: Annotated[float, typer.Option(min=0.1, help="Minutes that the lines over time reach back.")] = 10.0,
    once: Annotated[bool, typer.Option("--once", help="Print the state once, and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the state once as one JSON object, and stop.")] = False,
) -> None:
    """Show machine, tiers, events and assets, live in the whole terminal.

    Keys: q quits, p pauses, + and - change the interval. For example `aura top --interval 0.5 --window 30`, or
    `aura top --once` for a terminal that is none.
    """
    from aura.overview.once import as_object, print_once
    from aura.overview.top import Sources, Top

    settings = load_settings()
    sources = Sources.of(settings)
    if as_json:
        typer.echo(json.dumps(as_object(sources), indent=1))
    elif once or not sys.stdout.isatty():
        print_once(sources, Console() if sys.stdout.isatty() else Console(width=WIDTH))
    else:
        Top(sources, str(settings.home), interval=interval, window=timedelta(minutes=window)).run()


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
    from aura.overview.report import write_report

    if target.exists() and not force:
        raise typer.BadParameter(f"{target} exists: give another name, or --force", param_hint="TARGET")
    with working("Reading ...") as say:
        state = read_state(load_settings(), say)
    content = write_report(state)
    target.write_text(content, encoding="utf-8")
    typer.echo(f"{target}, {len(content) / 2**20:.1f} MiB", err=True)
    if unread := state.unread():
        typer.echo(f"Something could not be read; the file has the reasons under {', '.join(unread)}.", err=True)
        raise typer.Exit(1)
