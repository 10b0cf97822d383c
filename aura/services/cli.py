"""The commands `aura services ...` and `aura status`.

Belongs here: arguments and what a person reads. Does not: starting servers (`aura.services.server`), probing them
(`aura.services.status`).
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aura.services.java import class_path, java_servers
from aura.services.probe import State
from aura.services.recipe import ServerError
from aura.services.recipes import RECIPES, configured_server
from aura.services.server import Server
from aura.services.stack import prepare_dagster_home
from aura.services.status import Report, check_services
from aura.settings import load_settings
from aura.terminal import AsJson, AsJsonLines, completing, print_json, print_json_lines, working

services_app = typer.Typer(
    no_args_is_help=True, help="Real servers on this machine without Docker: Kafka, Neo4j, Redis, PostgreSQL."
)
console = Console()


def _known(names: list[str] | None) -> list[str]:
    for name in names or ():
        if name not in RECIPES:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(RECIPES)}")
    return list(dict.fromkeys(names or RECIPES))


Names = Annotated[
    list[str] | None,
    typer.Argument(
        callback=_known,
        autocompletion=completing(lambda: RECIPES),
        help=f"Some of {', '.join(RECIPES)}; all if none is given.",
    ),
]


def _servers(names: list[str] | None) -> list[Server]:
    settings = load_settings()
    return [configured_server(name, settings) for name in _known(names)]


@services_app.command("up")
def services_up(names: Names = None) -> None:
    """Start servers and wait until each does a real operation. They stay when this command ends.

    For example `aura services up redis postgres`. The exit code is 1 if one of them does not start; the others do.
    """
    failures = []
    for server in _servers(names):
        before = time.monotonic()
        was_running = server.running
        try:
            with working(f"{server.recipe.title} starts ..."):
                server.start()
        except ServerError as error:
            failures.append(str(error))
            continue
        how = "was running" if was_running else f"started in {time.monotonic() - before:.1f} s"
        console.print(f"{server.recipe.name:9} {escape(server.address)}  {how}", soft_wrap=True)
    if failures:
        raise ServerError("\n".join(failures))
    console.print('`eval "$(aura services env)"` points AURA at them in this shell.')


@services_app.command("down")
def services_down(names: Names = None) -> None:
    """Stop servers cleanly; their data, ports and logs stay.

    For example `aura services down kafka`, or `aura services down` for all.
    """
    for server in _servers(names):
        was_running = server.running
        with working(f"{server.recipe.title} stops ..."):
            server.stop()
        console.print(f"{server.recipe.name:9} {'stopped' if was_running else 'was not running'}")


@services_app.command("status")
def services_status(names: Names = None, *, as_json: AsJsonLines = False) -> None:
    """Print which servers run here.

    For example `aura services status`, or `aura services status redis --json`. The exit code is 1 if one runs and does
    not answer.
    """
    with working("Asking ..."):
        rows = [_row(server) for server in _servers(names)]
    if as_json:
        print_json_lines(rows)
    else:
        table = Table("server", "state", "address", "version", "process", "data and log")
        for row in rows:
            state = row["state"] if row["error"] is None else f"{row['state']}: {row['error']}"
            texts = (row["server"], state, row["address"], row["version"], row["process"], row["directory"])
            table.add_row(*("" if text is None else escape(str(text)) for text in texts))
        console.print(table)
    sys.exit(int(any(row["error"] is not None for row in rows)))


def _row(server: Server) -> dict[str, Any]:
    """What `aura services status` says of a server; the address has no password in it."""
    identity = server.identity
    row: dict[str, Any] = {
        "server": server.recipe.name,
        "state": "stopped",
        "address": None if identity is None else server.address,
        "version": None,
        "process": None if identity is None else identity.pid,
        "directory": str(server.directory) if server.directory.is_dir() else None,
        "error": None,
    }
    if identity is None:
        return row
    try:
        return row | {"state": "running", "version": server.answer()}
    except Exception as error:  # noqa: BLE001  each client has errors of its own
        return row | {"state": "does not answer", "error": str(error)}


@services_app.command("logs")
def services_logs(
    names: Names = None, lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="Of each log.")] = 40
) -> None:
    """Print the end of the servers' logs.

    For example `aura services logs kafka -n 100`.
    """
    for server in _servers(names):
        typer.echo(f"==> {server.log} <==")
        for line in server.last_lines(lines):
            typer.echo(line)


@services_app.command("fetch")
def services_fetch() -> None:
    """Fetch the jars of Kafka and Neo4j with Maven, so that no start has to; those that are there stay.

    For example `aura services fetch`, while there is a network.
    """
    failures = []
    for name in java_servers():
        try:
            with working(f"{name}: Maven fetches its jars ..."):
                jars = class_path(name).split(os.pathsep)
        except ServerError as error:
            failures.append(str(error))
            continue
        console.print(f"{name:9} {len(jars)} jars")
    if failures:
        raise ServerError("\n".join(failures))


@services_app.command("dagster-home")
def services_dagster_home(
    project: Annotated[Path, typer.Option(help="Directory with deploy/dagster.yaml.")] = Path(),
) -> None:
    """Write the configuration of the Dagster instance: storage in PostgreSQL if `postgres.address` is set.

    `aura up` does it by itself; this is for a webserver or daemon that is started on its own. For example
    `aura services dagster-home --project .`, which prints the directory that DAGSTER_HOME has to name.
    """
    settings = load_settings()
    prepare_dagster_home(settings, project.resolve())
    typer.echo(str(settings.dagster_home))


@services_app.command("env")
def services_env(names: Names = None) -> None:
    """Print the `export` lines that point AURA at the servers that run here, passwords included.

    For example `aura services env redis`; in a shell, eval "$(aura services env)".
    """
    for server in _servers(names):
        if not server.running:
            typer.echo(f"# {server.recipe.name} does not run: aura services up {server.recipe.name}")
            continue
        for variable, value in server.variables.items():
            typer.echo(f"export {variable}={shlex.quote(value)}")


def status(*, as_json: AsJson = False) -> None:
    """Do a real operation on each configured service; say what fails, what to do, and what else is affected.

    For example `aura status`, or `aura status --json` for another program (aura/services/status.schema.json says what
    it gets). The exit code is 1 if a configured service failed.
    """
    with working("Asking every service ..."):
        report = check_services(load_settings(), now=datetime.now(UTC))
    if as_json:
        print_json(report.to_json())
    else:
        _print_report(report)
    sys.exit(int(not report.healthy))


_STYLES = {
    State.OK: "[green]ok[/]",
    State.FAILED: "[bold red]failed[/]",
    State.NOT_CONFIGURED: "[dim]not configured[/]",
}


def _print_report(report: Report) -> None:
    table = Table("service", "state", "ms", "version", "what was done", "address", "needs")
    for service in report.services:
        finding = service.finding
        table.add_row(
            service.name,
            _STYLES[finding.state],
            "" if finding.seconds is None else f"{1000 * finding.seconds:.0f}",
            finding.version,
            finding.probe.absent or finding.probe.operation,
            escape(finding.probe.address or ""),
            ", ".join(dependency.on for dependency in service.needs),
        )
    console.print(table)
    console.print(f"Start order: {', '.join(report.start_order)}", soft_wrap=True)
    for service in report.services:
        finding = service.finding
        if finding.state is State.FAILED:
            console.print(
                f"[bold red]{service.name}[/]: {escape(str(finding.error))}. {escape(finding.probe.remedy)}",
                soft_wrap=True,
            )
            for consequence in service.when_down:
                console.print(f"  {consequence.service} {consequence.severity}: {consequence.effect}", soft_wrap=True)
