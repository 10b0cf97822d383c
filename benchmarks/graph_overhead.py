"""What it costs to run the work as a graph: the time of the whole graph over the time of the bare functions.

Both sides compute the same on the same texts, each in a process of its own with a home of its own, taking turns.

The graph: of `build_defs` the assets that the bare side computes too (`FROM_TEXTS`, `OF_TIERS`), through the jobs
`corpus` and `tiers` of Dagster with a persistent SQLite instance; inside it the checks, the plots, the measurement of
every step, MLflow runs and the registered model, the training's checkpoints, publication into the store (written,
synced, read back), inputs loaded from the store.

The bare functions: `scan`, `embed_items`, `persistence`, `train_expert_model`, `route`, called one after the other;
each result is kept as a plain Arrow or safetensors file. The tiers can only be measured and objects only be placed in a
store, so this side opens one too, puts the same blocks into it in one plain write, and calls `measure_profile` and
`plan_and_apply`. No Dagster, no MLflow, no checks, no plots, no checkpoints, no catalog.

One-time costs are apart: a process imports its libraries before its work begins, and the graph's process also makes the
databases of Dagster and MLflow. What is imported later all the same counts as work.

    python benchmarks/graph_overhead.py [--runs N] [--items N | --data DIR] [--json]
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa
from report import PROJECT, Figure, as_json, figure, tell

from aura.corpus.python_docs import PythonDocsSource
from aura.corpus.registry import SourceRegistry
from aura.corpus.sources import SourceOptions, SourceSpec, open_source
from aura.settings import Settings, load_settings
from aura.tiers.planning.profile import machine_name
from aura.tiers.values import StoredValue

GOAL = 1.10
FROM_TEXTS = (
    "corpus_manifest",
    "text_embeddings",
    "text_index",
    "embedding_diagrams",
    "expert_model",
    "expert_routing_table",
)
OF_TIERS = ("tier_profile", "tier_placement")
SOURCE = "benchmark"
COMPUTING = ("torch", "sentence_transformers", "transformers", "sklearn")
RECORDING = (
    "mlflow",
    "mlflow.pyfunc.model",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
)


@dataclass
class Measured:
    """What one side took, in seconds.

    Attributes:
        once: One-time costs by name, paid before the work.
        work: The work.
        work_cpu: CPU time of the work, processes that it started included.
        steps: The work by asset: of the graph, from the start of a step to its end.
        bodies: Of the graph: what the step itself measured, function, checks and encoding without publication.
        process: The whole process, from its start to its end.
    """

    once: dict[str, float] = field(default_factory=dict)
    work: float = 0.0
    work_cpu: float = 0.0
    steps: dict[str, float] = field(default_factory=dict)
    bodies: dict[str, float] = field(default_factory=dict)
    process: float = 0.0

    @contextmanager
    def timed_once(self, name: str) -> Iterator[None]:
        """Measure a one-time cost."""
        started = time.perf_counter()
        yield
        self.once[name] = time.perf_counter() - started

    @contextmanager
    def timed_work(self) -> Iterator[None]:
        """Measure the work."""
        started, cpu = time.perf_counter(), sum(os.times()[:4])
        yield
        self.work, self.work_cpu = time.perf_counter() - started, sum(os.times()[:4]) - cpu

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure a step of the work."""
        started = time.perf_counter()
        yield
        self.steps[name] = time.perf_counter() - started


def run_graph(settings: Settings) -> Measured:
    """The graph on the registered source."""
    measured = Measured()
    with measured.timed_once("imports"):
        for name in (*COMPUTING, *RECORDING):
            importlib.import_module(name)
        import dagster as dg

        from aura.measure.mlflow_store import connect
        from aura.services.stack import prepare_dagster_home
        from aura_assets.build import build_defs
        from aura_assets.partitions import sources
    with measured.timed_once("MLflow database"):
        connect(settings.tracking_uri).search_experiments()
    with measured.timed_once("Dagster databases"):
        prepare_dagster_home(settings, PROJECT)
        os.environ["DAGSTER_HOME"] = str(settings.dagster_home)
        instance = dg.DagsterInstance.get()
        instance.add_dynamic_partitions(sources.name or "", [SOURCE])
        instance.get_runs(limit=1)
    with instance:
        with measured.timed_work():
            defs = build_defs(settings)
            results = [
                defs.resolve_job_def(job).execute_in_process(
                    instance=instance,
                    partition_key=partition,
                    asset_selection=[dg.AssetKey(name) for name in assets],
                    run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                )
                for job, partition, assets in (("corpus", SOURCE, FROM_TEXTS), ("tiers", None, OF_TIERS))
            ]
        for result in results:
            for step in instance.get_run_step_stats(result.run_id):
                if step.start_time is not None and step.end_time is not None:
                    measured.steps[step.step_key] = step.end_time - step.start_time
            for event in result.get_asset_materialization_events():
                metadata = event.materialization.metadata
                measured.bodies[str(event.step_key)] = float(str(metadata["wall_seconds"].value))
    return measured


def run_bare(settings: Settings) -> Measured:
    """The functions that the assets call, on the registered source."""
    measured = Measured()
    with measured.timed_once("imports"):
        for name in (*COMPUTING, "aura.tiers.planning.placement"):
            importlib.import_module(name)
        from aura.embeddings.incremental import embed_items
        from aura.embeddings.text import open_text_encoder
        from aura.experts.config import ExpertConfig
        from aura.experts.routing.vectors import route
        from aura.experts.training import train_expert_model
        from aura.search.index import build_index
        from aura.topology.persistence import Caps, persistence
    results = settings.home / "results"
    results.mkdir(parents=True)
    corpus, embedding, topology = settings.corpus, settings.embeddings, settings.topology
    limits = SourceOptions(file_bytes=int(corpus.max_file_bytes), text_bytes=int(corpus.max_text_bytes))
    with measured.timed_work():
        with measured.step("corpus_manifest"):
            manifest = open_source(SourceRegistry(settings.sources_file).get(SOURCE), limits).scan()
            write_arrow(results / "manifest.arrow", manifest.table)
        with measured.step("text_embeddings"):
            encoder = open_text_encoder(
                embedding.text_model,
                revision=embedding.text_revision,
                device=embedding.device,
                dtype=embedding.dtype,
                hub_timeout_s=embedding.hub_timeout_seconds,
            )
            embeddings, _ = embed_items(manifest.items("text"), encoder)
            write_arrow(results / "embeddings.arrow", embeddings.table)
        with measured.step("text_index"):
            index = build_index(embeddings, flat_up_to=settings.search.flat_up_to)
            (results / "index.json").write_bytes(index.to_parts()["card"])
        labels = embeddings.table["label"].to_pylist()
        item_ids = embeddings.table["item_id"].to_pylist()
        with measured.step("embedding_diagrams"):
            caps = Caps(topology.time_limit_seconds, int(topology.memory_limit))
            diagrams = persistence(points=embeddings.vectors, landmarks=topology.landmarks, seed=0, caps=caps)
            write_arrow(results / "diagrams.arrow", diagrams.table)
        with measured.step("expert_model"):
            config = ExpertConfig(**settings.experts.training)
            model = train_expert_model(embeddings.vectors, labels, item_ids=item_ids, config=config)
            model.save_safetensors(results / "experts.safetensors")
        with measured.step("expert_routing_table"):
            clusters = settings.experts.clusters
            routing = route(model, embeddings.vectors, labels, item_ids=item_ids, clusters=clusters)
            for name, part in routing.to_parts().items():
                write_arrow(results / f"routing_{name}.arrow", part)
        values = {
            "manifest": manifest,
            "embeddings": embeddings,
            "diagrams": diagrams,
            "model": model,
            "routing": routing,
        }
        place_in_tiers(measured, settings, values)
    return measured


def place_in_tiers(measured: Measured, settings: Settings, values: Mapping[str, StoredValue]) -> None:
    """Put the values into a store, measure its tiers, place the blocks; to be called within the timed work."""
    from aura.tiers.blocks import cut
    from aura.tiers.opening import open_configured_store
    from aura.tiers.places import VALUES
    from aura.tiers.planning.placement import plan_and_apply
    from aura.tiers.planning.profile import measure_profile

    results = settings.home / "results"
    with measured.step("the store of the tiers"), open_configured_store(settings) as store:
        store.write(
            {
                f"{VALUES}{name}/bare/{part}/{number:06d}": block
                for name, value in values.items()
                for part, content in value.to_parts().items()
                for number, block in enumerate(cut(content))
            }
        )
        with measured.step("tier_profile"):
            profile = measure_profile(store)
            write_arrow(results / "profile.arrow", profile.costs)
            write_arrow(results / "profile_samples.arrow", profile.samples)
        with measured.step("tier_placement"):
            placement = plan_and_apply(store, profile)
            write_arrow(results / "placement.arrow", placement.objects)
            write_arrow(results / "placement_tiers.arrow", placement.tiers)
    inner = measured.steps["tier_profile"] + measured.steps["tier_placement"]
    measured.steps["the store of the tiers"] -= inner


def write_arrow(path: Path, table: pa.Table) -> None:
    """Keep a table as an Arrow file."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


SIDES: Mapping[str, Callable[[Settings], Measured]] = {"graph": run_graph, "bare": run_bare}


def measure_side(side: str, spec: SourceSpec, folder: Path) -> Measured:
    """Run one side in a fresh process with a fresh home; its output is shown when it fails."""
    home, report = folder / "home", folder / "measured.json"
    SourceRegistry(home / "sources.json").add(spec)
    command = [sys.executable, __file__, "--side", side, "--report", str(report)]
    started = time.perf_counter()
    run = subprocess.run(
        command, env={**os.environ, "AURA_HOME": str(home)}, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    if run.returncode != 0:
        raise SystemExit(f"the side {side!r} failed:\n{run.stdout}{run.stderr}")
    measured = Measured(**json.loads(report.read_text()))
    measured.process = seconds
    return measured


def write_items(target: Path, count: int) -> None:
    """Write this many docstrings as one table, the labels with most of them first, so that each label has many."""
    texts = PythonDocsSource().scan().items("text").select(["label", "text"]).to_pandas()
    sizes = texts["label"].map(texts["label"].value_counts())
    chosen = texts.assign(size=sizes).sort_values(["size", "label"], ascending=[False, True], kind="stable")[:count]
    target.mkdir()
    chosen[["label", "text"]].to_json(target / "docstrings.jsonl", orient="records", lines=True)


def take_turns(runs: int, spec: SourceSpec, folder: Path) -> dict[str, list[Measured]]:
    """Measure both sides, the one that begins changing from run to run."""
    measured: dict[str, list[Measured]] = {side: [] for side in SIDES}
    for number in range(runs):
        for side in list(SIDES)[:: 1 if number % 2 == 0 else -1]:
            with tempfile.TemporaryDirectory(dir=folder) as home:
                measured[side].append(measure_side(side, spec, Path(home)))
            last = measured[side][-1]
            tell(f"run {number + 1} of {runs}, {side}: {last.work:.1f} s of work, {last.process:.1f} s in all")
    return measured


def figures_of(measured: Mapping[str, Sequence[Measured]]) -> list[Figure]:
    """The figures of the report: ratios of medians, then the medians that they are made of."""
    graph, bare = measured["graph"], measured["bare"]

    def ratio(name: str, seconds: Callable[[Measured], float], goal: float | None) -> Figure:
        over = statistics.median(map(seconds, graph)) / statistics.median(map(seconds, bare))
        pairs = [seconds(a) / seconds(b) for a, b in zip(graph, bare, strict=True)]
        return figure(name, pairs, "ratio", value=over, against="bare functions", goal=goal)

    rows = [
        ratio("work", lambda m: m.work, GOAL),
        ratio("work, CPU time", lambda m: m.work_cpu, None),
        ratio("whole process, one-time costs included", lambda m: m.process, GOAL),
    ]
    for name, side in measured.items():
        every = [seconds_of(each) for each in side]
        for what in every[0]:
            runs = [seconds[what] for seconds in every]
            rows.append(figure(f"{name}: {what}", runs, "s"))
    return rows


def seconds_of(measured: Measured) -> dict[str, float]:
    """All that was measured of one side in one run, by name."""
    return {
        "work": measured.work,
        "work, CPU time": measured.work_cpu,
        "whole process": measured.process,
        **{f"once, {name}": seconds for name, seconds in measured.once.items()},
        **{f"step {name}": seconds for name, seconds in measured.steps.items()},
        **{f"measured in {name}": seconds for name, seconds in measured.bodies.items()},
        "between steps": measured.work - sum(measured.steps.values()),
    }


def show(figures: Sequence[Figure]) -> None:
    """Print the ratios, and where the seconds are, as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    value = {str(each["name"]): float(str(each["value"])) for each in figures}
    ratios = Table("graph over bare functions", "ratio", "goal", "holds", "each run", title=machine_name())
    for each in figures:
        if each["unit"] == "ratio":
            goal = "" if each["goal"] is None else f"<= {each['goal']:.2f}"
            holds = {True: "yes", False: "no", None: ""}[each["holds"]]  # type: ignore[index]
            ratios.add_row(
                str(each["name"]), f"{each['value']:.3f}", goal, holds, ", ".join(f"{r:.3f}" for r in each["runs"])
            )
    console.print(ratios)
    seconds = Table("seconds, medians", "bare", "graph", "of it measured", "graph - bare")
    steps = dict.fromkeys(name.partition(": step ")[2] for name in value if ": step " in name)
    for step in steps:
        bare, graph = value.get(f"bare: step {step}", 0.0), value.get(f"graph: step {step}", 0.0)
        body = value.get(f"graph: measured in {step}")
        seconds.add_row(
            step, f"{bare:.2f}", f"{graph:.2f}", "" if body is None else f"{body:.2f}", f"{graph - bare:+.2f}"
        )
    between = value["graph: between steps"]
    seconds.add_row("between steps", "", f"{between:.2f}", "", f"{between:+.2f}")
    for name in ("work", "work, CPU time", "whole process"):
        bare, graph = value[f"bare: {name}"], value[f"graph: {name}"]
        seconds.add_row(name, f"{bare:.2f}", f"{graph:.2f}", "", f"{graph - bare:+.2f}", style="bold")
    for name in [name for name in value if ": once, " in name]:
        side = name.partition(":")[0]
        cells = [f"{value[name]:.2f}" if side == column else "" for column in ("bare", "graph")]
        seconds.add_row(name, *cells, "", "")
    console.print(seconds)


def main() -> None:
    """Run the benchmark, or one side of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="how often each side runs")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--items", type=int, help="this many docstrings instead of the whole source python-docs")
    what.add_argument("--data", type=Path, help="a directory with labelled texts instead of python-docs")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--report", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.side is not None:
        chosen.report.write_text(json.dumps(asdict(SIDES[chosen.side](load_settings()))))
        return
    if chosen.runs < 1:
        parser.error(f"--runs is {chosen.runs}: each side has to run once at least")
    with tempfile.TemporaryDirectory(prefix="aura-benchmark-") as name:
        folder = Path(name)
        spec = SourceSpec(SOURCE, "python-docs")
        if chosen.items is not None:
            write_items(folder / "items", chosen.items)
            spec = SourceSpec(SOURCE, "directory", folder / "items")
        elif chosen.data is not None:
            spec = SourceSpec(SOURCE, "directory", chosen.data.expanduser().resolve())
        figures = figures_of(take_turns(chosen.runs, spec, folder))
    if chosen.json:
        as_json("graph_overhead", figures)
    else:
        show(figures)


if __name__ == "__main__":
    main()
