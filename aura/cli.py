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

from aura.corpus.cli import sources_app
from aura.corpus.errors import CorpusError
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
from aura.settings_listing import as_objects, describe
from aura.terminal import AsJsonLines, fill_width, print_json_lines
from aura.tiers.catalog import Catalog
from aura.tiers.cli import tiers_app
from aura.tiers.errors import StoreError
from aura.tiers.opening import open_configured_store
from aura.tiers.planning.placement import TierPlacement, restore_placement
from aura.tiers.published import CatalogError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
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

    The exit code is 0 if all is well, 1 if it failed, 2 if the command line is wrong. `--json` is for programs: what
    else there is to say goes to stderr.
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
    as_json: AsJsonLines = False,
) -> None:
    """Print every setting with its value, where the value comes from, and what it means. Secrets are masked.

    For example `aura settings`, or `aura settings --json` for another program.
    """
    if as_json:
        named = ({"name": name, "description": description} for name, description in fields_of(Settings))
        print_json_lines(named if names else as_objects(load_settings()))
        return
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
    """Run the development stack on loopback: store owner, Dagster, MLflow, dashboard. Ctrl-C ends it.

    For example `aura up`, or `aura up --project ~/aura --workspace deploy/workspace.gpu.yaml`.
    """
    sys.exit(run_stack(load_settings(), project.resolve(), workspace))


@tiers_app.command("serve")
def tiers_serve() -> None:
    """Own the store and serve it to the other processes of this machine, until interrupted.

    Objects go back to the tiers of the last placement. While another process owns the store this one waits its turn.
    For example `aura tiers serve`, in a terminal of its own; `aura tiers stat` in another shows what it holds.
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


fill_width(app)
