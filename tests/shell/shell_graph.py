"""The real graph on a small real corpus: what the tests of this folder run, in this process or in others."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from aura.corpus.registry import SourceRegistry
from aura.corpus.sources import SourceSpec
from aura.services.stack import prepare_dagster_home
from aura.settings import Settings
from aura.settings_sections import EmbeddingSettings, ExpertSettings, TierSettings, TopologySettings
from aura.tiers.catalog import Catalog
from aura.tiers.opening import open_configured_store
from aura.tiers.store import TieredStore
from aura_assets.build import build_defs
from aura_assets.partitions import sources

PROJECT = Path(__file__).resolve().parents[2]

MIB = 1024 * 1024

CORPUS = {"decimal": ("decimal",), "email": ("email.message", "imaplib", "smtplib"), "turtle": ("turtle",)}
"""Label of a small corpus to the modules whose docstrings it holds."""

DOCUMENTS_PER_LABEL = 20

SOURCE = "library"
"""Name under which tests register the small corpus."""


def docstrings(module_name: str) -> Iterator[str]:
    """Docstrings of a module's functions and of its classes' methods, each once, in order of their names."""
    module = importlib.import_module(module_name)
    members = [member for _, member in inspect.getmembers(module)]
    members += [each for member in members if inspect.isclass(member) for _, each in inspect.getmembers(member)]
    texts = [inspect.getdoc(each) for each in members if callable(each) and not inspect.isclass(each)]
    yield from dict.fromkeys(text for text in texts if text and len(text) > 80)


def write_corpus(root: Path) -> Path:
    """Write the small corpus: one directory per label, one text file per docstring."""
    taken: set[str] = set()
    for label, modules in CORPUS.items():
        texts = [text for module in modules for text in docstrings(module) if text not in taken]
        taken.update(texts)
        (root / label).mkdir(parents=True)
        for number, text in enumerate(texts[:DOCUMENTS_PER_LABEL]):
            (root / label / f"{number:02d}.txt").write_text(text, encoding="utf-8")
    return root


def small_settings(home: Path, text_model: Path | None) -> Settings:
    """Settings that make the graph take seconds: small budgets, few epochs."""
    return Settings(
        home=home,
        embeddings=EmbeddingSettings(text_model=None if text_model is None else str(text_model), dtype="float32"),
        topology=TopologySettings(landmarks=40, subsamples=30, subsample_points=20),
        experts=ExpertSettings(experts=2, epochs=6, min_label_items=5),
        tiers=TierSettings(process_bytes=MIB, arena_bytes=4 * MIB),
    )


def changed(settings: Settings, **sections: Mapping[str, object]) -> Settings:
    """The same settings but for some names: `changed(settings, topology={"landmarks": 20})`."""
    updates = {name: getattr(settings, name).model_copy(update=values) for name, values in sections.items()}
    return settings.model_copy(update=updates)


@dataclass(frozen=True)
class Outcome:
    """What a run did, by asset name.

    Attributes:
        success: Whether every step did what it could.
        run_id: The Dagster run.
        materialized: Metadata of each materialization: name to plain value.
        entries: The same with Dagster's types.
        data_versions: Data version of each materialization.
        skipped: Steps that had nothing upstream.
        left_out: Assets that said themselves that there is nothing to make, with their words.
        failed: Failed steps with the message of the first cause.
        checks: Evaluations by (asset, check).
    """

    success: bool
    run_id: str
    materialized: Mapping[str, Mapping[str, object]]
    entries: Mapping[str, Mapping[str, dg.MetadataValue]]
    data_versions: Mapping[str, str]
    skipped: frozenset[str]
    left_out: Mapping[str, str]
    failed: Mapping[str, str]
    checks: Mapping[tuple[str, str], dg.AssetCheckEvaluation]

    @property
    def reused(self) -> frozenset[str]:
        """Assets that were taken over as they were."""
        return frozenset(name for name, values in self.materialized.items() if "reused" in values)


def outcome_of(result: dg.ExecuteInProcessResult) -> Outcome:
    """Read the events of a run."""
    entries: dict[str, Mapping[str, dg.MetadataValue]] = {}
    versions: dict[str, str] = {}
    left_out: dict[str, str] = {}
    failed: dict[str, str] = {}
    for event in result.all_events:
        if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
            name = event.materialization.asset_key.to_user_string()
            entries[name] = event.materialization.metadata
            versions[name] = (event.materialization.tags or {})["dagster/data_version"]
        elif event.event_type == dg.DagsterEventType.ASSET_OBSERVATION:
            observation = event.asset_observation_data.asset_observation
            left_out[observation.asset_key.to_user_string()] = str(observation.metadata["status"].value)
        elif event.is_step_failure:
            error = event.step_failure_data.error
            while error is not None and error.cause is not None:
                error = error.cause
            said = error.message.strip() if error is not None else str(event.message)
            if event.step_failure_data.user_failure_data is not None:
                said = event.step_failure_data.user_failure_data.description or said
            failed[str(event.step_key)] = said
    return Outcome(
        success=result.success,
        run_id=result.run_id,
        materialized={name: {key: value.value for key, value in values.items()} for name, values in entries.items()},
        entries=entries,
        data_versions=versions,
        skipped=frozenset(str(event.step_key) for event in result.all_events if event.is_step_skipped),
        left_out=left_out,
        failed=failed,
        checks={(e.asset_key.to_user_string(), e.check_name): e for e in result.get_asset_check_evaluations()},
    )


@dataclass(frozen=True)
class Graph:
    """The definitions of a home, and what tests do with them. Runs go through a Dagster instance that persists."""

    settings: Settings
    source: str = SOURCE

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """The Dagster instance of the home, configured as in production."""
        prepare_dagster_home(self.settings, PROJECT)
        with dg.DagsterInstance.from_config(str(self.settings.dagster_home)) as instance:
            yield instance

    @contextmanager
    def store(self) -> Iterator[TieredStore]:
        """The tiered store of the home."""
        with open_configured_store(self.settings) as store:
            yield store

    @contextmanager
    def catalog(self) -> Iterator[Catalog]:
        """The catalog of published values."""
        with self.store() as store:
            yield Catalog(store)

    def published(self, partition: str | None = SOURCE) -> Mapping[str, str]:
        """Name and version of everything that is published in a partition."""
        with self.catalog() as catalog:
            return {each.name: each.version for each in catalog.published() if each.partition == partition}

    def load(self, name: str, partition: str | None = SOURCE) -> object:
        """Load a published value."""
        with self.catalog() as catalog:
            return catalog.load(name, partition)

    def register(self, directory: Path, name: str = SOURCE) -> None:
        """Register a directory as a source."""
        SourceRegistry(self.settings.sources_file).add(SourceSpec(name=name, kind="directory", path=directory))

    def definitions(self) -> dg.Definitions:
        """The definitions of production for these settings."""
        return build_defs(self.settings)

    def run(
        self, job: str = "corpus", partition: str | None = SOURCE, *, tags: Mapping[str, str] | None = None
    ) -> Outcome:
        """Run a job in this process; a failure is in the outcome."""
        if job == "tiers":
            partition = None
        return self._execute(self.definitions(), job, partition, tags or {})

    def run_selection(
        self,
        selection: dg.AssetSelection | Sequence[str],
        partition: str | None = SOURCE,
        *,
        tags: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Run some assets or checks in this process."""
        chosen = selection if isinstance(selection, dg.AssetSelection) else dg.AssetSelection.assets(*selection)
        job = dg.define_asset_job("chosen", selection=chosen)
        definitions = dg.Definitions.merge(self.definitions(), dg.Definitions(jobs=[job]))
        return self._execute(definitions, "chosen", partition, tags or {})

    def _execute(
        self, definitions: dg.Definitions, job: str, partition: str | None, tags: Mapping[str, str]
    ) -> Outcome:
        with self.instance() as instance:
            if partition is not None:
                instance.add_dynamic_partitions(sources.name or "", [partition])
            result = definitions.resolve_job_def(job).execute_in_process(
                instance=instance,
                raise_on_error=False,
                # The tag that Dagster's daemon and UI set; `partition_key` refuses a selection of checks alone.
                tags={**tags, **({} if partition is None else {"dagster/partition": partition})},
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )
            return outcome_of(result)
