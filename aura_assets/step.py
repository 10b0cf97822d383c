"""What happens in the step of every asset, around the author's function.

Measure, check, publish, record. A value is published only when its blocking checks have passed; until then readers see
the value before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

import dagster as dg

from aura.graph.errors import GraphError
from aura.graph.lineage import Version, materialized
from aura.graph.model import Write
from aura.measure.checks import CheckResult
from aura.measure.cost import Cost, measure
from aura.measure.mlflow_store import store_errors
from aura.measure.recorder import Record
from aura.resilience.outbox import OutboxError
from aura.settings import Settings
from aura.tiers.catalog import Catalog
from aura.tiers.published import DAMAGE, Draft, Published
from aura.tiers.store import TieredStore
from aura.tiers.values import StoredValue
from aura_assets.io_managers import INPUT, Publication, input_key
from aura_assets.metadata import cost_metadata, figure
from resources.instruments import Instruments
from resources.lineage import Lineage

ROWS = "rows"
"""Key of the provenance under which a published value says how many things it holds."""

KEPT = "kept"
"""Key of the provenance of values that stay when what they were made from is withdrawn."""

MISSING = "missing"
"""What the provenance says of an input, or of a partition of an input, that was not published."""

FORCE_TAG = "aura/force"
"""A run with this tag set to "true" recomputes what could be reused."""

ACCEPT_TAG = "aura/accept"
"""A run with this tag set to "true" takes what is there now as what later is compared with: references, grids."""


@dataclass(frozen=True)
class Made:
    """What an asset function returns.

    Attributes:
        value: The value, published if its blocking checks pass.
        rows: How many things the value holds: items, bars, experts.
        figures: Numbers about the value; they become metadata and metrics of the MLflow run.
        metadata: What else the UI shows: plots, tables, texts.
        parameters: What it was made with beyond the settings and the inputs, as text; parameters of the MLflow run.
        when_published: Called once the value is durable, with the id of its MLflow run if there is one; gives further
            metadata.
        lineage: What the graph is told of the value beyond what it was made from.
    """

    value: StoredValue
    rows: int
    figures: Mapping[str, float] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    when_published: Callable[[str | None], Mapping[str, Any]] | None = None
    lineage: Callable[[Version], Sequence[Write]] = lambda _: ()


@dataclass(frozen=True)
class Skipped:
    """There is nothing to make in this partition, and why."""

    reason: str


Body = Callable[..., Made | Skipped]
"""An asset function: the context, typed inputs and resources in, a value or the reason for none out."""


@dataclass(frozen=True)
class ValueCheck:
    """A check of meaning on the value of an asset.

    Attributes:
        name: Name in the UI.
        description: What is expected, for people.
        evaluate: Looks at the value.
        blocking: Whether a failure keeps the value from being published and stops what is downstream; otherwise it
            is shown as a warning.
    """

    name: str
    description: str
    evaluate: Callable[[Any], CheckResult]
    blocking: bool = True


@dataclass(frozen=True)
class Design:
    """What the author of an asset declared."""

    name: str
    group: str
    checks: tuple[ValueCheck, ...]
    inputs: tuple[str, ...]
    settings: tuple[str, ...]
    code_version: str
    reusable: bool
    kept: bool
    partitioned: bool


@dataclass(frozen=True)
class Surroundings:
    """The resources that every step needs, whatever its function takes."""

    store: TieredStore
    instruments: Instruments
    lineage: Lineage
    settings: Settings


@dataclass(frozen=True)
class _Outcome:
    made: Made
    draft: Draft
    checks: Mapping[str, CheckResult]
    cost: Cost


class Step:
    """One execution of one asset in one partition."""

    def __init__(self, design: Design, context: dg.AssetExecutionContext, surroundings: Surroundings) -> None:
        self.design = design
        self.context = context
        self.settings = surroundings.settings
        self.instruments = surroundings.instruments
        self.lineage = surroundings.lineage
        # A run of a partition may hold steps of assets that have none.
        self.partition = context.partition_key if design.partitioned else None
        self.title = design.name if self.partition is None else f"{design.name}[{self.partition}]"
        self.catalog = Catalog(surroundings.store)

    def run(self, body: Body, arguments: Mapping[str, object]) -> Iterator[Any]:
        """Yield the events of the step: checks, and a materialization unless there is nothing to make."""
        if not self.context.selected_asset_keys:
            yield from self._recheck()
            return
        published = self._find()
        provenance = self._provenance()
        if published is not None and self._reusable(published, provenance):
            reused = self._reuse(published)
            yield from reused
            if reused:
                return
        outcome = self._measured(body, arguments)
        if isinstance(outcome, Skipped):
            self._leave_out(outcome.reason)
            return
        yield from self._publish(outcome, provenance, published)

    def _find(self) -> Published | None:
        try:
            return self.catalog.find(self.design.name, self.partition)
        except DAMAGE as error:
            self._warn_of_damage(error)
            return None

    def _warn_of_damage(self, error: Exception) -> None:
        self.context.log.warning("%s is made again, because what is published is damaged: %s", self.title, error)

    def _provenance(self) -> dict[str, str]:
        """What the value is made from: code, settings and the versions of the inputs."""
        provenance = {
            "code_version": self.design.code_version,
            "settings": self.settings.digest(self.design.settings),
        }
        for key, name, partition in self._inputs():
            found = self.catalog.find(name, partition)
            provenance[key] = found.version if found else MISSING
        if self.design.kept:
            provenance[KEPT] = "true"
        return provenance

    def _inputs(self) -> Iterator[tuple[str, str, str | None]]:
        """Key of the provenance, name and partition of everything that is read."""
        step = self.context.get_step_execution_context()
        for name in self.design.inputs:
            if not step.has_asset_partitions_for_input(name):
                yield input_key(name), name, None
                continue
            partitions = self.context.asset_partition_keys_for_input(name)
            for partition in partitions:
                yield input_key(name, partition if len(partitions) > 1 else None), name, partition

    def _reusable(self, published: Published, provenance: Mapping[str, str]) -> bool:
        forced = self.context.run.tags.get(FORCE_TAG) == "true"
        return self.design.reusable and not forced and provenance.items() <= published.provenance.items()

    def _recheck(self) -> Iterator[dg.AssetCheckResult]:
        """Evaluate the checks alone, on the value that is published."""
        value = self.catalog.load(self.design.name, self.partition)
        yield from (self._check_event(check, check.evaluate(value)) for check in self.design.checks)

    def _reuse(self, published: Published) -> list[dg.AssetCheckResult | dg.MaterializeResult]:
        """The events of taking over what is published; none if it is damaged and has to be made again."""
        try:
            with measure(self.title, meter=self.instruments.meter) as measurement:
                checks = list(self._recheck())
        except DAMAGE as error:
            self._warn_of_damage(error)
            return []
        rows = int(published.provenance[ROWS])
        self._record(measurement.cost, "reused", figures={"rows": rows})
        result = dg.MaterializeResult(
            asset_key=self.design.name,
            data_version=dg.DataVersion(published.version),
            metadata={
                # The plots and figures of the value as it was made stay in sight.
                **self._last_metadata(),
                "dagster/row_count": rows,
                "bytes": published.bytes,
                "reused": f"Nothing that it depends on has changed since {published.created_at}. "
                f"Run with the tag {FORCE_TAG}=true to compute it again.",
                **cost_metadata(measurement.cost),
            },
        )
        return [*checks, result]

    def _last_metadata(self) -> Mapping[str, dg.MetadataValue]:
        """The metadata of the latest materialization; none if this instance has not seen one."""
        wanted = dg.AssetRecordsFilter(
            dg.AssetKey(self.design.name), asset_partitions=None if self.partition is None else [self.partition]
        )
        records = self.context.instance.fetch_materializations(wanted, limit=1).records
        materialization = records[0].asset_materialization if records else None
        return {} if materialization is None else materialization.metadata

    def _measured(self, body: Body, arguments: Mapping[str, object]) -> _Outcome | Skipped:
        measurement = None
        try:
            with measure(self.title, meter=self.instruments.meter) as measurement:
                made = body(self.context, **arguments)
                if isinstance(made, Made):
                    draft = self.catalog.prepare(made.value)
                    checks = {check.name: check.evaluate(made.value) for check in self.design.checks}
        except Exception:
            if measurement is not None:
                self._record(measurement.cost, "failed")
            raise
        if isinstance(made, Skipped):
            self._record(measurement.cost, "skipped", reason=made.reason)
            return made
        return _Outcome(made, draft, checks, measurement.cost)

    def _publish(
        self, outcome: _Outcome, provenance: Mapping[str, str], published: Published | None
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        made = outcome.made
        passed = {f"check_{name}": float(result.passed) for name, result in outcome.checks.items()}
        record = partial(
            self._record,
            outcome.cost,
            figures={"rows": made.rows, **made.figures, **passed},
            made_with={**_named_inputs(provenance), "version": outcome.draft.version, **made.parameters},
        )
        yield from (self._check_event(check, outcome.checks[check.name]) for check in self.design.checks)
        refused = [c for c in self.design.checks if c.blocking and not outcome.checks[c.name].passed]
        if refused:
            record("refused")
            raise dg.Failure(
                description=f"{self.title} is not published, because "
                + "; ".join(outcome.checks[check.name].description for check in refused),
                metadata={"still_published": published.version if published else "nothing"},
                allow_retries=False,
            )
        yield dg.MaterializeResult(
            asset_key=self.design.name,
            value=Publication(
                outcome.draft,
                {**provenance, ROWS: str(made.rows)},
                succeeded=lambda published: self._published(outcome, published, record("made")),
                failed=lambda: record("failed"),
            ),
            data_version=dg.DataVersion(outcome.draft.version),
            metadata={
                "dagster/row_count": made.rows,
                **made.metadata,
                **{name: figure(value) for name, value in made.figures.items()},
                **cost_metadata(outcome.cost),
            },
        )

    def _published(self, outcome: _Outcome, published: Published, reference: str | None) -> Mapping[str, Any]:
        """What is left to do once the value is durable. What fails here costs the record, not the value."""
        made = outcome.made
        self._tell_lineage(outcome, published)
        metadata: dict[str, Any] = {}
        if reference is not None:
            page = f"{self.settings.mlflow_address}/#/runs/{reference}"
            metadata = {"mlflow_run": reference, "mlflow_page": dg.MetadataValue.url(page)}
        if made.when_published is None:
            return metadata
        try:
            return {**metadata, **made.when_published(reference)}
        except store_errors() as error:
            self.context.log.warning("%s is published, but not registered in MLflow: %s", self.title, error)
            return metadata

    def _tell_lineage(self, outcome: _Outcome, published: Published) -> None:
        version = Version(published.name, published.partition, published.version)
        inputs = [
            Version(name, partition, published.provenance[key])
            for key, name, partition in self._inputs()
            if published.provenance[key] != MISSING
        ]
        energy = outcome.cost.energy
        cost = {"wall_seconds": outcome.cost.wall_seconds, "cpu_seconds": outcome.cost.cpu_seconds}
        if energy.joules is not None:
            cost[f"joules_{energy.source}"] = energy.joules
        facts = materialized(
            version,
            inputs=inputs,
            run_id=self.context.run.run_id,
            at=datetime.fromisoformat(published.created_at),
            cost=cost,
            source=None if inputs else self.partition,
        )
        try:
            self.lineage.record([*facts, *outcome.made.lineage(version)])
        except (GraphError, OutboxError) as error:
            self.context.log.warning("%s is published, but its lineage is not recorded: %s", self.title, error)

    def _leave_out(self, reason: str) -> None:
        """Say why there is nothing, and take back what was published here and downstream before."""
        self.context.log.warning("%s is skipped: %s", self.title, reason)
        self.context.log_event(
            dg.AssetObservation(self.design.name, partition=self.partition, metadata={"status": f"skipped: {reason}"})
        )
        self._withdraw(self.design.name, self.partition)

    def _withdraw(self, name: str, partition: str | None) -> None:
        """Take back a value and everything that was made from it, but for what is kept."""
        for published in self.catalog.published():
            of_this = partition in (None, published.partition) and input_key(name) in published.provenance
            of_several = published.provenance.get(input_key(name, partition), MISSING) != MISSING
            if (of_this or of_several) and KEPT not in published.provenance:
                self._withdraw(published.name, published.partition)
        self.catalog.withdraw(name, partition)

    def _check_event(self, check: ValueCheck, result: CheckResult) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(
            asset_key=self.design.name,
            check_name=check.name,
            passed=result.passed,
            severity=dg.AssetCheckSeverity.ERROR if check.blocking else dg.AssetCheckSeverity.WARN,
            description=result.description,
            metadata={name: float(value) for name, value in result.figures.items()},
        )

    def _record(
        self,
        cost: Cost,
        outcome: str,
        *,
        figures: Mapping[str, float] | None = None,
        made_with: Mapping[str, str] | None = None,
        reason: str | None = None,
    ) -> str | None:
        return self.instruments.recorder.record(
            Record(
                subject=self.design.name,
                partition=self.partition,
                run_id=self.context.run.run_id,
                group=self.design.group,
                code_version=self.design.code_version,
                cost=cost,
                figures={name: float(value) for name, value in (figures or {}).items()},
                tags={
                    "outcome": outcome,
                    **({"reason": reason} if reason else {}),
                    **self.settings.parameters(self.design.settings),
                    **(made_with or {}),
                },
                succeeded=outcome != "failed",
                reused=outcome == "reused",
            )
        )


def _named_inputs(provenance: Mapping[str, str]) -> dict[str, str]:
    """The versions of the inputs, but for those of which several partitions were read: these may be many."""
    return {name: version for name, version in provenance.items() if name.startswith(INPUT) and "[" not in name}
