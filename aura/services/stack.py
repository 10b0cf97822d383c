"""The development stack: which processes `aura up` runs on this machine, and with what.

Belongs here: the command of each process. Does not: their supervision, which is honcho's.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from aura.measure.mlflow_store import create_database, database_path
from aura.settings import LOOPBACK, Settings, config_file, variable_of

WORKSPACE = Path("workspace.yaml")
"""The whole graph in one code location, relative to the project."""

INSTANCE = Path("deploy", "dagster.yaml")
"""Configuration of the Dagster instance, relative to the project."""


class StackError(RuntimeError):
    """The stack cannot start; the message says what is missing and the remedy."""


@dataclass(frozen=True)
class Process:
    """One process of the stack.

    Attributes:
        name: Prefix of its lines of output.
        command: Program and arguments.
        address: Where a person finds it; None if it serves no page.
    """

    name: str
    command: tuple[str, ...]
    address: str | None = None


def stack(settings: Settings, project: Path, workspace: Path = WORKSPACE) -> list[Process]:
    """The processes of the development stack; everything listens on loopback. A remote MLflow is not started.

    Args:
        settings: Ports and paths.
        project: Directory with `workspace.yaml` and `app/`.
        workspace: The code locations, relative to the project.
    """
    services = settings.services
    here = Path(sys.executable).parent
    return [
        Process("store", (str(here / "aura"), "tiers", "serve")),
        Process(
            "dagster",
            (
                *(str(here / "dg"), "dev", "-w", str(project / workspace)),
                *("--host", LOOPBACK, "--port", str(services.dagster_port)),
            ),
            f"http://{LOOPBACK}:{services.dagster_port}",
        ),
        *([] if database_path(settings.tracking_uri) is None else [_mlflow(settings, here)]),
        Process(
            "dashboard",
            (
                *(str(here / "streamlit"), "run", str(project / "app" / "main.py"), "--server.headless", "true"),
                *("--server.address", LOOPBACK, "--server.port", str(services.dashboard_port)),
                *("--browser.gatherUsageStats", "false"),
            ),
            f"http://{LOOPBACK}:{services.dashboard_port}",
        ),
    ]


def _mlflow(settings: Settings, here: Path) -> Process:
    return Process(
        "mlflow",
        (
            *(str(here / "mlflow"), "server", "--backend-store-uri", settings.tracking_uri),
            *("--artifacts-destination", str(settings.artifact_root), "--workers", "1"),
            *("--host", LOOPBACK, "--port", str(settings.services.mlflow_port)),
        ),
        settings.mlflow_address,
    )


def prepare_dagster_home(settings: Settings, project: Path) -> None:
    """Make Dagster's directory with this project's instance configuration.

    Where `postgres.address` is set, runs, events and schedules are kept there; else in SQLite files beside it.
    """
    settings.dagster_home.mkdir(parents=True, exist_ok=True)
    text = (project / INSTANCE).read_text(encoding="utf-8")
    draft = settings.dagster_home / f"dagster.{os.getpid()}.draft"
    draft.write_text(text + _postgres_storage(settings), encoding="utf-8")
    # Several processes may do this, while others read it.
    draft.replace(settings.dagster_home / "dagster.yaml")


def _postgres_storage(settings: Settings) -> str:
    postgres = settings.postgres
    if postgres.address is None:
        return ""
    at = urlsplit(postgres.address)
    database = {
        # The driver that dagster-postgres brings; SQLAlchemy 2.1 would look for another.
        "scheme": "postgresql+psycopg2",
        "hostname": at.hostname or LOOPBACK,
        "port": at.port or 5432,
        "db_name": at.path.removeprefix("/") or postgres.user,
        "username": postgres.user,
        # The file says where the password is, not what it is.
        **({} if postgres.password is None else {"password": {"env": variable_of("postgres.password")}}),
        "params": {"connect_timeout": max(2, round(postgres.timeout_seconds))},
    }
    return f"storage: {json.dumps({'postgres': {'postgres_db': database}})}\n"  # JSON is YAML


def run_stack(settings: Settings, project: Path, workspace: Path = WORKSPACE) -> int:
    """Run the stack until it is interrupted or one of its processes ends; then stop the others.

    Returns:
        The exit code of the process that ended first.

    Raises:
        StackError: A port is taken, the `ui` extra is not installed, or the directory is no project.
    """
    missing = [each for each in (workspace, Path("app", "main.py"), INSTANCE) if not (project / each).is_file()]
    if missing:
        raise StackError(f"{project} has no {missing[0]}: name the directory of the project with --project")
    try:
        from honcho.manager import Manager
    except ImportError as error:
        raise StackError("`aura up` needs the extra `ui`; `make up` in the project installs it") from error
    services = settings.services
    ports = {"dagster_port": services.dagster_port, "dashboard_port": services.dashboard_port}
    database = database_path(settings.tracking_uri)
    if database is not None:
        ports["mlflow_port"] = services.mlflow_port
    for name, port in ports.items():
        _require_free(port, f"AURA_SERVICES__{name.upper()}")
    prepare_dagster_home(settings, project)
    if database is not None:
        # So that the server and the first run do not make it at the same time.
        create_database(database)
    manager = Manager()
    for process in stack(settings, project, workspace):
        manager.add_process(process.name, shlex.join(process.command), env=_environment(settings), cwd=str(project))
    manager.loop()
    return int(manager.returncode or 0)


def _environment(settings: Settings) -> Mapping[str, str]:
    return {
        **os.environ,
        "AURA_HOME": str(settings.home),
        # The children run in the project's directory: they read the same file as this process.
        **({"AURA_CONFIG": str(config_file().resolve())} if config_file().is_file() else {}),
        "DAGSTER_HOME": str(settings.dagster_home),
        "PYTHONUNBUFFERED": "1",
    }


def _require_free(port: int, variable: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise StackError(f"Port {port} on {LOOPBACK} cannot be used ({error.strerror}): set {variable}.") from error
