"""What a materialization is measured with, and where the figures go."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import dagster as dg
from pydantic import Field

from aura.measure.energy import EnergyMeter, open_meter
from aura.measure.mlflow_recorder import MlflowRecorder
from aura.measure.recorder import Recorder
from aura.measure.tracing import Tracing, configure_tracing
from aura.settings import Settings, variable_of


@dataclass(frozen=True)
class Instruments:
    """The energy meter and the recorder of this run.

    Attributes:
        meter: Counts the joules of a window.
        recorder: Keeps the figures of a materialization.
        tracking_uri: Where the recorder keeps them, for what else belongs to the same MLflow run.
    """

    meter: EnergyMeter
    recorder: Recorder
    tracking_uri: str


class InstrumentsResource(dg.ConfigurableResource[Instruments]):
    """Energy counters of this machine, MLflow, and traces if an endpoint is set."""

    energy: Literal["auto", "off", "modelled"] = Field(
        description="auto: the counters that exist; modelled: watts_per_core."
    )
    watts_per_core: float = Field(description="Watts of a busy core that `modelled` assumes.")
    tracking_uri: str = Field(description="MLflow tracking URI.")
    experiment: str = Field(description="MLflow experiment.")
    artifact_root: str = Field(description="Directory of MLflow artifacts beside an SQLite store.")
    otlp_endpoint: str | None = Field(None, description="OTLP/HTTP endpoint of traces; none: nothing is exported.")
    otlp_token: str | None = Field(None, description="Bearer token of the endpoint, by the name of its variable.")

    @classmethod
    def of(cls, settings: Settings) -> InstrumentsResource:
        """The instruments that the settings name."""
        measure = settings.measure
        return cls(
            energy=measure.energy,
            watts_per_core=measure.watts_per_core,
            tracking_uri=settings.tracking_uri,
            experiment=measure.mlflow_experiment,
            artifact_root=str(settings.artifact_root),
            otlp_endpoint=measure.otlp_endpoint,
            # By name, so that the UI, which shows a resource's configuration, does not show the secret.
            otlp_token=dg.EnvVar(variable_of("measure.otlp_token")) if measure.otlp_token else None,
        )

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Instruments]:
        """Open the counters; send out what is left of the traces when the run ends."""
        tracing = _tracing(self.otlp_endpoint, self.otlp_token)
        yield Instruments(
            meter=open_meter(self.energy, watts_per_core_busy=self.watts_per_core),
            recorder=MlflowRecorder(self.tracking_uri, self.experiment, Path(self.artifact_root)),
            tracking_uri=self.tracking_uri,
        )
        tracing.flush()


@functools.cache
def _tracing(endpoint: str | None, token: str | None) -> Tracing:
    """Set up once in a process, however many runs it executes."""
    return configure_tracing("aura", endpoint, {"Authorization": f"Bearer {token}"} if token else None)
