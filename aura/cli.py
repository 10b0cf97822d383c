"""The command line of AURA."""

from __future__ import annotations

import signal
import sys
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from aura.corpus.errors import CorpusError
from aura.corpus.registry import SourceRegistry, built_in
from aura.corpus.sources import SourceSpec
from aura.corpus.tree import resolved_root
from aura.embeddings.errors import EmbeddingError
from aura.events.cli import app as events_app
from aura.events.errors import EventError
from aura.events.opening import open_event_log
from aura.experts.offload.cli import experts_app
from aura.experts.offload.errors import OffloadError
from aura.graph.cli import graph_app
from aura.graph.errors import GraphError
from aura.overview.cli import report, top
from aura.resilience.outbox import OutboxError
from aura.search.cli import search
from aura.search.errors import SearchError
from aura.services.cli import services_app, status
from aura.services.operations import OperationsPublisher
from aura.services.recipe import ServerError
from aura.services.stack import StackError, run_stack
from aura.settings import Settings, SettingsError, fields_of, load_settings
from aura.settings_listing import describe
from aura.tiers.catalog import Catalog
from aura.tiers.cli import tiers_app
from aura.tiers.errors import StoreError
from aura.tiers.opening import open_configured_store
from aura.tiers.planning.placement import TierPlacement, restore_placement
from aura.tiers.published import CatalogError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
sources_app = typer.Typer(no_args_is_help=True, help="The corpus sources that are watched.")
app.add_typer(sources_app, name="sources")
app.add_typer(tiers_app, name="tiers")
app.add_typer(services_app, name="services")
app.add_typer(events_app, name="events")
app.add_typer(graph_app, name="graph")
app.add_typer(experts_app, name="experts")
app.command()(search)
app.command()(status)
app.command()(top)
app.command()(report)
console = Console()

OPERATIONS_EVERY_SECONDS = 10.0
"""How often the owner of the store publishes what was read."""

PLAIN_ERRORS = (
    SettingsError,
    CorpusError,
    StoreError,
    CatalogError,
    StackError,
    ServerError,
    EventError,
    GraphError,
    EmbeddingError,
    OffloadError,
    SearchError,
    OutboxError,
    OSError,
)
"""What a person can mend: it is said in a sentence, without a traceback."""


def main() -> None:
    """Entry point: errors that a person can mend are one sentence, not a traceback."""
    try:
        app()
    except PLAIN_ERRORS as error:
        Console(stderr=True).print(f"[bold red]error[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def begin(
    *,
    show_version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """Keep embeddings, diagrams, routing tables and memory placements of a corpus up to date, with what they cost.

    To begin: `aura sources add notes ~/notes`, then `aura up`, which starts the Dagster UI and the dashboard.
    """
    if show_version:
        console.print(version("aura"))
        raise typer.Exit


@app.command()
def settings(
    *,
    names: Annotated[
        bool, typer.Option("--names", help="Names and meanings only; works while a setting is wrong.")
    ] = False,
) -> None:
    """Print every setting with its value, where the value comes from, and what it means."""
    table = Table(Column("setting", overflow="fold", min_width=34), box=box.SIMPLE_HEAD)
    if names:
        table.add_column("meaning")
        for name, description in fields_of(Settings):
            table.add_row(name, escape(description))
    else:
        for title in ("value", "from", "meaning"):
            table.add_column(title, overflow="fold")
        for row in describe(load_settings()):
            table.add_row(*(escape(text) for text in (row.name, row.value, row.origin, row.description)))
    console.print(table)
    console.print("In the environment: AURA_<SECTION>__<NAME>, for example AURA_TIERS__PROCESS_BYTES=128MiB.")


@app.command()
def up(
    project: Annotated[Path, typer.Option(help="Directory with workspace.yaml and app/.")] = Path(),
    workspace: Annotated[
        Path, typer.Option(help="Code locations, within the project; deploy/workspace.gpu.yaml cuts the graph in two.")
    ] = Path("workspace.yaml"),
) -> None:
    """Run the development stack on loopback: store owner, Dagster, MLflow, dashboard."""
    sys.exit(run_stack(load_settings(), project.resolve(), workspace))


@sources_app.command("list")
def sources_list() -> None:
    """Print the registered sources."""
    table = Table("name", "kind", "path")
    for spec in SourceRegistry(load_settings().sources_file).specs():
        table.add_row(spec.name, spec.kind, escape(str(spec.path or "")))
    console.print(table)


@sources_app.command("add")
def sources_add(
    name: Annotated[str, typer.Argument(help="Name of the source; it becomes a partition.")],
    path: Annotated[
        Path | None, typer.Argument(help="Directory with text, images or audio; none for a built-in source.")
    ] = None,
) -> None:
    """Register a directory, or bring back a built-in source. A running stack lists it within a minute."""
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
def sources_remove(name: Annotated[str, typer.Argument(help="Name of the source.")]) -> None:
    """Forget a source and take back the values computed from it.

    The files themselves stay, and so does the record: runs and registered models in MLflow, runs in Dagster.
    """
    settings = load_settings()
    registry = SourceRegistry(settings.sources_file)
    registry.get(name)
    with open_configured_store(settings) as store:
        catalog = Catalog(store)
        for published in catalog.published():
            if published.partition == name:
                catalog.withdraw(published.name, name)
    # Last, so that after an error above the same command can be given again.
    registry.remove(name)
    console.print(f"{name} is forgotten.")


@tiers_app.command("serve")
def tiers_serve() -> None:
    """Own the store and serve it to the other processes of this machine, until interrupted.

    Objects go back to the tiers of the last placement. While another process owns the store this one waits its turn.
    """
    stop = threading.Event()
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, lambda *_: stop.set())
    settings = load_settings()
    with open_configured_store(settings) as store:
        placement = Catalog(store).load_previous(TierPlacement, "tier_placement", None)
        if placement is not None:
            restore_placement(store, placement)
        console.print(
            f"Serving {settings.store_directory}: {', '.join(state.tier.label for state in store.tiers())}",
            soft_wrap=True,
        )
        publisher = OperationsPublisher(store, lambda: open_event_log(settings))
        publishing = threading.Thread(target=publisher.run, args=(stop, OPERATIONS_EVERY_SECONDS))
        publishing.start()
        try:
            while not stop.wait(1):
                store.tiers()
        finally:
            stop.set()
            publishing.join()
