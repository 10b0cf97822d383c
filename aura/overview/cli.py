"""`aura top` and `aura report`.

Belongs here: options, and what is printed. Does not: what is shown.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from aura.settings import LOOPBACK, load_settings
from aura.terminal import working

if TYPE_CHECKING:
    from aura.overview.report import State
    from aura.overview.stored import TierFigures
    from aura.settings import Settings

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
    """
    from aura.overview.report import write_report

    if target.exists() and not force:
        raise typer.BadParameter(f"{target} exists: give another name, or --force", param_hint="TARGET")
    with ExitStack() as opened, working("Reading ..."):
        content = write_report(_state(load_settings(), opened))
    target.write_text(content, encoding="utf-8")
    typer.echo(f"{target}, {len(content) / 2**20:.1f} MiB", err=True)


def _state(settings: Settings, opened: ExitStack) -> State:
    """Everything that the report shows; what cannot be read is said in it."""
    from aura.corpus.registry import SourceRegistry
    from aura.loading import open_catalog
    from aura.overview.costs import ERRORS, CostView
    from aura.overview.report import State
    from aura.overview.stored import StoreView
    from aura.services.status import check_services
    from aura.tiers.errors import StoreError
    from aura.tiers.published import CatalogError

    absent: list[tuple[str, str]] = []
    book = catalog = None
    tiers: tuple[TierFigures, ...] = ()
    try:
        book = CostView(settings.tracking_uri, settings.measure.mlflow_experiment).book()
    except ERRORS as error:
        absent.append(("Costs and freshness are not known", str(error)))
    view = StoreView(settings.store_directory, settings.tiers.timeout_seconds)
    opened.callback(view.close)
    try:
        tiers = view.tiers()
    except StoreError as error:
        absent.append(("The memory tiers are not known", str(error)))
    try:
        catalog = opened.enter_context(open_catalog())
    except (StoreError, CatalogError) as error:
        absent.append(("The values cannot be read", str(error)))
    now = datetime.now(UTC)
    return State(
        home=str(settings.home),
        taken_at=now,
        book=book,
        partitions=tuple(spec.name for spec in SourceRegistry(settings.sources_file).specs()),
        catalog=catalog,
        tiers=tiers,
        services=check_services(settings, now=now, looking_on=True),
        dagster=f"http://{LOOPBACK}:{settings.services.dagster_port}",
        absent=tuple(absent),
    )
