"""The main job from a terminal: register sources, run the graph, print what it cost and where it lives.

Runs the same definitions as the UI, in this process, with progress bars. `python -m aura_assets.demo --help`.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
from filelock import FileLock
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from aura.cli import PLAIN_ERRORS
from aura.corpus.registry import SourceRegistry
from aura.corpus.sources import SourceSpec
from aura.corpus.tree import resolved_root
from aura.services.stack import prepare_dagster_home
from aura.settings import LOOPBACK, Settings, load_settings, variable_of
from aura.tiers.catalog import Catalog
from aura.tiers.opening import open_configured_store
from aura.tiers.store import TieredStore
from aura_assets.build import build_defs
from aura_assets.partitions import sources
from resources.progress import Report
from sensors.dead_runs import release_dead_runs

NOTHING_UPSTREAM = "skipped: nothing upstream"

PROJECT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Line:
    """One asset of one partition, as the closing table shows it."""

    asset: str
    partition: str
    outcome: str
    rows: int | None = None
    wall_seconds: float | None = None
    cpu_seconds: float | None = None
    peak_memory_mib: float | None = None
    energy: str = ""


class Bars:
    """Progress bars for whatever the assets report."""

    def __init__(self, console: Console) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self.progress = Progress(*columns, TimeElapsedColumn(), console=console)
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, name: str) -> Report:
        """Give the report for one piece of work."""

        def report(done: int, total: int) -> None:
            if name not in self._tasks:
                self._tasks[name] = self.progress.add_task(escape(name), total=total)
            self.progress.update(self._tasks[name], completed=done, total=total)

        return report


def _instance(settings: Settings) -> dg.DagsterInstance:
    """Dagster's instance. Its tables are made without a lock of Dagster's own, so two first starts take turns here."""
    with FileLock(settings.dagster_home / "instance.lock", timeout=120):
        return dg.DagsterInstance.get()


def run_graph(settings: Settings, names: Sequence[str], console: Console) -> tuple[list[Line], bool]:
    """Run the corpus job for each source, then the tiers job, in this process.

    A step that fails does not stop the other sources; what it said is on the console and in the Dagster UI.

    Returns:
        What was made or left out, and whether no step failed.
    """
    prepare_dagster_home(settings, PROJECT)
    os.environ["DAGSTER_HOME"] = str(settings.dagster_home)
    lines: list[Line] = []
    sound = True
    bars = Bars(console)
    with _instance(settings) as instance, bars.progress:
        release_dead_runs(instance)
        defs = build_defs(settings, resources={"progress": bars})
        instance.add_dynamic_partitions(sources.name or "", list(names))
        for job, partition in [*(("corpus", name) for name in names), ("tiers", None)]:
            result = defs.resolve_job_def(job).execute_in_process(
                instance=instance,
                partition_key=partition,
                raise_on_error=False,
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )
            lines += _lines(result, partition)
            if not result.success:
                sound = False
                _explain(result, console)
    return lines, sound


def _lines(result: dg.ExecuteInProcessResult, partition: str | None) -> list[Line]:
    lines = []
    for event in result.all_events:
        if event.is_step_skipped:
            lines.append(Line(str(event.step_key), partition or "", NOTHING_UPSTREAM))
        elif event.event_type == dg.DagsterEventType.ASSET_OBSERVATION:
            observation = event.asset_observation_data.asset_observation
            status = str(observation.metadata["status"].value)
            lines.append(Line(observation.asset_key.to_user_string(), partition or "", status))
        elif event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
            lines.append(_materialized(event.materialization, partition or ""))
    return lines


def _materialized(materialization: dg.AssetMaterialization, partition: str) -> Line:
    values = {name: value.value for name, value in materialization.metadata.items()}
    joules = [f"{values[name]:.1f} J {name.removeprefix('joules_')}" for name in values if name.startswith("joules_")]
    return Line(
        asset=materialization.asset_key.to_user_string(),
        partition=partition,
        outcome="reused" if "reused" in values else "made",
        rows=values["dagster/row_count"],
        wall_seconds=values["wall_seconds"],
        cpu_seconds=values["cpu_seconds"],
        peak_memory_mib=values["peak_memory_mib"],
        energy=joules[0] if joules else str(values["energy"]).split(":")[0],
    )


def _explain(result: dg.ExecuteInProcessResult, console: Console) -> None:
    for event in result.all_events:
        if event.is_step_failure:
            what, error = str(event.step_key), event.step_failure_data.error
        elif event.is_run_failure and event.job_failure_data.first_step_failure_event is None:
            what, error = "the run", event.job_failure_data.error
        else:
            continue
        # Dagster's wrappers say that a step failed, our error says what and what to do, its causes the library's words.
        while error is not None and error.cause is not None and str(error.cls_name).startswith("Dagster"):
            error = error.cause
        said = error.message.strip() if error else str(event.message)
        console.print(f"[bold red]{what} failed[/] {escape(said)}", soft_wrap=True)


def tiers_of(store: TieredStore, asset: str, partition: str) -> str:
    """Where the blocks of a published value live: bytes per tier."""
    published = Catalog(store).find(asset, partition or None)
    if published is None:
        return ""
    sizes: dict[str, int] = {}
    keys = set(published.keys)
    for entry in store.entries("values/"):
        if entry.key in keys:
            sizes[entry.tier] = sizes.get(entry.tier, 0) + entry.bytes
    return ", ".join(f"{tier} {size / 2**20:.1f}" for tier, size in sorted(sizes.items()))


def summary(lines: Sequence[Line], store: TieredStore) -> Table:
    """The table that the job ends with: what was made, what it cost, where it lives."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("asset", min_width=21)
    for column in ("rows", "wall s", "CPU s", "peak\nMiB"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("energy", no_wrap=True)
    table.add_column("MiB in tier")
    for line in lines:
        if line.wall_seconds is None:
            continue
        notes = [line.partition] * bool(line.partition) + [line.outcome] * (line.outcome == "reused")
        table.add_row(
            line.asset + (f"\n  [dim]{escape(', '.join(notes))}[/]" if notes else ""),
            *(f"{line.rows:,}", f"{line.wall_seconds:.2f}", f"{line.cpu_seconds:.2f}", f"{line.peak_memory_mib:.0f}"),
            *(line.energy, tiers_of(store, line.asset, line.partition)),
        )
    return table


def left_out(lines: Sequence[Line]) -> list[str]:
    """What was not made, and why; what only waited for something that was not made is not repeated."""
    return [
        f"{line.asset}[{line.partition}] {line.outcome}"
        for line in lines
        if line.wall_seconds is None and line.outcome != NOTHING_UPSTREAM
    ]


NEXT_STEPS = """
[bold]Next[/]
  make up
    Dagster    {0}
    MLflow     {1}
    dashboard  {2}
  make demo SOURCE=~/documents                the same for a directory of your own
  .venv/bin/aura search "parse a date"        the nearest items, by a text, an image or a sound
  .venv/bin/aura sources add notes ~/notes    watch a directory from now on
  .venv/bin/aura settings                     every setting, its value and where it comes from
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job; 0 if everything that could be made was made."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--source", type=Path, help="a directory of your own, instead of the built-in sources")
    parser.add_argument("--data", type=Path, help="a directory with the Free Spoken Digit Dataset in its folder fsdd")
    parser.add_argument("--name", help="what to call it (by default as the directory)")
    chosen = parser.parse_args(arguments)
    console = Console()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # A skipped asset has no check results, which Dagster says once per check; the table below says it once.
    logging.getLogger("dagster._core.execution.plan.active").setLevel(logging.ERROR)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    if chosen.data is not None:
        os.environ[variable_of("corpus.spoken_digits")] = str(chosen.data.expanduser().absolute() / "fsdd")
    started = time.perf_counter()
    try:
        settings = load_settings()
        names = _register(settings, chosen.source, chosen.name)
        # Opened here, once, so that the memory tiers are still there when the table is printed.
        with open_configured_store(settings) as store:
            lines, sound = run_graph(settings, names, console)
            console.print(summary(lines, store))
            for sentence in left_out(lines):
                console.print(escape(sentence), style="dim")
    except PLAIN_ERRORS as error:
        Console(stderr=True).print(f"[bold red]error[/] {escape(str(error))}", soft_wrap=True)
        return 1
    console.print(f"{time.perf_counter() - started:.1f} s in all. Everything is kept in {settings.home}.")
    ports = (settings.services.dagster_port, settings.services.mlflow_port, settings.services.dashboard_port)
    console.print(NEXT_STEPS.format(*(f"http://{LOOPBACK}:{port}" for port in ports)))
    return 0 if sound else 1


def _register(settings: Settings, directory: Path | None, name: str | None) -> list[str]:
    """Register the directory if one is given; name the sources to run."""
    registry = SourceRegistry(settings.sources_file)
    if directory is None:
        return [spec.name for spec in registry.specs()]
    path = resolved_root(directory.expanduser())
    for spec in registry.specs():
        if spec.path == path:
            return [spec.name]
    name = name or re.sub(r"[^a-z0-9._-]+", "-", path.name.lower()).strip("-._") or "source"
    registry.add(SourceSpec(name=name, kind="directory", path=path))
    return [name]


if __name__ == "__main__":
    sys.exit(main())
