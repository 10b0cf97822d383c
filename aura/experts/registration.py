"""Publishing an expert model in the MLflow model registry, without a pickle."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from aura.experts.model import ExpertModel

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature

SCRIPT = Path(__file__).with_name("registered.py")
REQUIREMENTS = ("mlflow", "numpy", "pandas", "safetensors")
ALIAS = "current"
"""The alias of the version published last; MLflow reserves the word "latest"."""


@dataclass(frozen=True)
class Served:
    """What MLflow is given of a model.

    Attributes:
        name: Of its entry, in words.
        script: The script that loads it ("models from code").
        artifacts: The files and directories that the script reads, by name.
        requirements: The packages that it needs; the installed versions are recorded.
        signature: What it takes and what it answers.
    """

    name: str
    script: Path
    artifacts: Mapping[str, Path]
    requirements: Sequence[str]
    signature: ModelSignature


def log_expert_model(
    model: ExpertModel,
    *,
    tracking_uri: str,
    run_id: str,
    registered_name: str,
    tags: Mapping[str, str],
) -> str:
    """Log the model under an existing run, register it, and let the alias "current" point to it.

    The run's status is left as it is.

    Args:
        model: The trained model.
        tracking_uri: The MLflow tracking server or database; its registry is used as well.
        run_id: The run that the model belongs to.
        registered_name: Name in the registry; made when it is new.
        tags: Tags of the model version.

    Returns:
        The URI of the registered version, `models:/<name>/<version>`.

    Raises:
        mlflow.exceptions.MlflowException: The run does not exist or the server refuses.
    """
    with TemporaryDirectory() as folder:
        weights, card = Path(folder, "model.safetensors"), Path(folder, "card.json")
        model.save_safetensors(weights)
        card.write_bytes(model.card.to_json())
        served = Served(
            "expert-model",
            SCRIPT,
            {"weights": weights, "card": card},
            REQUIREMENTS,
            _signature(model.card.dimension),
        )
        return log_served(served, tracking_uri=tracking_uri, run_id=run_id, registered_name=registered_name, tags=tags)


def log_served(served: Served, *, tracking_uri: str, run_id: str, registered_name: str, tags: Mapping[str, str]) -> str:
    """Log and register what was made ready to be served; arguments, answer and errors as for `log_expert_model`."""
    import mlflow
    from mlflow.models import Model

    with _tracking(tracking_uri), warnings.catch_warnings():
        # MLflow asks for type hints and an input example to infer a signature from; ours is given.
        warnings.filterwarnings("ignore", message=".*(type hints|input example).*", category=UserWarning)
        client = mlflow.MlflowClient()
        # Model.log would put the model into the process's experiment: make its entry in the run's own.
        entry = client.create_logged_model(client.get_run(run_id).info.experiment_id, served.name, run_id)
        logged = Model.log(
            artifact_path=None,
            name=entry.name,
            model_id=entry.model_id,
            flavor=mlflow.pyfunc,
            run_id=run_id,
            python_model=str(served.script),
            artifacts={name: str(path) for name, path in served.artifacts.items()},
            pip_requirements=[f"{name}=={version(name)}" for name in served.requirements],
            signature=served.signature,
        )
        _ensure_registered(client, registered_name)
        registered = client.create_model_version(
            registered_name, logged.model_uri, run_id, tags=dict(tags), model_id=entry.model_id
        )
        client.set_registered_model_alias(registered_name, ALIAS, registered.version)
    return f"models:/{registered_name}/{registered.version}"


def _ensure_registered(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _signature(dimension: int) -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    return ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, dimension))]),
        outputs=Schema(
            [ColSpec(DataType.string, "label"), ColSpec(DataType.long, "expert"), ColSpec(DataType.float, "gate")]
        ),
    )


@contextmanager
def _tracking(uri: str) -> Iterator[None]:
    """MLflow's model functions know only the process-wide server: set it for their time."""
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
