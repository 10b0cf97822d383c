"""The commands `aura sources`.

Belongs here: options, the table, the JSON lines. Does not: what is registered (`aura.corpus.registry`).

The modules that open sources are imported where they are needed: they take as long as all other commands together.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aura.settings import load_settings
from aura.terminal import AsJsonLines, completing, print_json_lines, working

sources_app = typer.Typer(no_args_is_help=True, help="The corpus sources that are watched.")
console = Console()


def source_names() -> list[str]:
    """Names of the registered sources."""
    from aura.corpus.registry import SourceRegistry

    return [spec.name for spec in SourceRegistry(load_settings().sources_file).specs()]


@sources_app.command("list")
def sources_list(*, as_json: AsJsonLines = False) -> None:
    """Print the registered sources.

    For example `aura sources list --json`.
    """
    from aura.corpus.registry import SourceRegistry

    specs = SourceRegistry(load_settings().sources_file).specs()
    if as_json:
        print_json_lines(asdict(spec) | {"path": spec.path and str(spec.path)} for spec in specs)
        return
    table = Table("name", "kind", "path")
    for spec in specs:
        table.add_row(spec.name, spec.kind, escape(str(spec.path or "")))
    console.print(table)


def _built_in() -> list[str]:
    from aura.corpus.registry import BUILT_IN

    return [spec.name for spec in BUILT_IN]


@sources_app.command("add")
def sources_add(
    name: Annotated[
        str, typer.Argument(autocompletion=completing(_built_in), help="Name of the source; it becomes a partition.")
    ],
    path: Annotated[
        Path | None, typer.Argument(help="Directory with text, images or audio; none for a built-in source.")
    ] = None,
) -> None:
    """Register a directory, or bring back a built-in source. A running stack lists it within a minute.

    For example `aura sources add notes ~/notes`, or `aura sources add digits` after it was removed.
    """
    from aura.corpus.registry import SourceRegistry, built_in
    from aura.corpus.sources import SourceSpec
    from aura.corpus.tree import resolved_root

    registry = SourceRegistry(load_settings().sources_file)
    if path is None:
        registry.add(built_in(name))
        console.print(f"{name} is registered. `make up` picks it up.")
        return
    spec = registry.add(SourceSpec(name=name, kind="directory", path=resolved_root(path.expanduser())))
    console.print(
        f"{name} is registered. `make up` picks it up; `make demo SOURCE={escape(str(spec.path))}` computes it now.",
        soft_wrap=True,
    )


@sources_app.command("remove")
def sources_remove(
    name: Annotated[str, typer.Argument(autocompletion=completing(source_names), help="Name of the source.")],
) -> None:
    """Forget a source and take back the values computed from it.

    The files themselves stay, and so does the record: runs and registered models in MLflow, runs in Dagster.
    For example `aura sources remove notes`.
    """
    from aura.corpus.registry import SourceRegistry
    from aura.tiers.catalog import Catalog
    from aura.tiers.opening import open_configured_store

    settings = load_settings()
    registry = SourceRegistry(settings.sources_file)
    registry.get(name)
    with open_configured_store(settings) as store, working("Taking back what was computed ..."):
        catalog = Catalog(store)
        for published in catalog.published():
            if published.partition == name:
                catalog.withdraw(published.name, name)
    # Last, so that after an error above the same command can be given again.
    registry.remove(name)
    console.print(f"{name} is forgotten.")
