"""Publishing a language model with experts and its twin in the MLflow model registry, without a pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from aura.experts.language.models import DENSE, MOE, LanguageModels
from aura.experts.registration import Served, log_served

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

SCRIPT = Path(__file__).with_name("registered.py")
REQUIREMENTS = ("mlflow", "pandas", "safetensors", "tokenizers", "torch", "transformers")


def log_language_models(
    models: LanguageModels, *, tracking_uri: str, run_id: str, registered_name: str, tags: Mapping[str, str]
) -> str:
    """Log both models under an existing run and register them as one, as `log_expert_model` does.

    What is served is the model with experts. Both are directories of `transformers` in the version's artifacts. Whoever
    loads the model needs this package (`aura`) beside the requirements that are recorded with it.
    """
    with TemporaryDirectory() as folder:
        moe, dense = models.save(Path(folder))
        served = Served("language-model", SCRIPT, {MOE: moe, DENSE: dense}, REQUIREMENTS, _signature())
        return log_served(served, tracking_uri=tracking_uri, run_id=run_id, registered_name=registered_name, tags=tags)


def _signature() -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    return ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "text")]),
        outputs=Schema([ColSpec(DataType.double, "bits_per_byte"), ColSpec(DataType.long, "tokens")]),
    )
