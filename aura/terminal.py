"""What all commands share: JSON, how far something has come, completion of names, help.

Belongs here: what looks the same in every command. Does not: what a command says (the `cli` of each package).
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Protocol

import typer

_JOINED = re.compile(r"(?<!\n)\n(?=\S)")

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object instead of the text.")]
AsJsonLines = Annotated[bool, typer.Option("--json", help="One JSON object per line instead of the table.")]


def print_json(row: object) -> None:
    """Print one line of JSON, at once."""
    sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_json_lines(rows: Iterable[dict[str, Any]]) -> None:
    """Print one JSON object per line, each at once."""
    for row in rows:
        print_json(row)


class Tell(Protocol):
    """Says what is under way by now, and how much of it is done: a part from 0 to 1, None where nobody knows."""

    def __call__(self, said: str, part: float | None = None) -> None:
        """Say it."""
        ...


@contextmanager
def working(text: str) -> Iterator[Tell]:
    """Show on stderr what is under way, how far it has come and for how long; nothing of it stays.

    Where stderr is no terminal nothing is shown.

    Yields:
        A function that says what is under way by now.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, quiet=not sys.stderr.isatty())
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[percent]}"),
        TimeElapsedColumn(),
    )
    # What is printed meanwhile is for stdout, wherever that leads.
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        task = progress.add_task(escape(text), total=None, percent="")

        def tell(said: str, part: float | None = None) -> None:
            known = {"total": None, "percent": ""} if part is None else {"total": 1.0, "percent": f"{part:.0%}"}
            progress.update(task, description=escape(said), completed=part or 0.0, **known)

        yield tell


def completing(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """What `autocompletion` takes: the names that begin as typed; none where they cannot be had."""

    def complete(incomplete: str) -> list[str]:
        try:
            return [name for name in names() if name.startswith(incomplete)]
        except Exception:  # noqa: BLE001  a shell that completes has nowhere to say what is wrong
            return []

    return complete


def fill_width(app: typer.Typer) -> None:
    """Let the help of all commands fill a terminal of any width; by itself typer breaks lines where docstrings do.

    Lines that are indented stay lines.
    """
    for command in [app.registered_callback, *app.registered_commands]:
        if command is not None and command.callback is not None:
            command.help = _JOINED.sub(" ", inspect.getdoc(command.callback) or "")
    for group in app.registered_groups:
        if group.typer_instance is not None:
            fill_width(group.typer_instance)
