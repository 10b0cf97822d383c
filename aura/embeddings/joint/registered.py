"""The served form of a joint model: the script that MLflow runs to load it ("models from code").

It builds the towers with this package, which has to be installed where it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model  # noqa: TID253 - run by MLflow itself; nothing else imports this script
from mlflow.pyfunc.model import PythonModel, PythonModelContext  # noqa: TID253

from aura.embeddings.joint.model import JointModel


class RegisteredJointModel(PythonModel):
    """Gives items of any of its modalities a vector."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read artifacts["model"], a directory of safetensors and JSON."""
        self.model = JointModel.load(Path(context.artifacts["model"]))
        self.encoders = {modality: self.model.encoder(modality) for modality in self.model.modalities}

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 - MLflow's signature
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> np.ndarray:
        """Vectors of length 1 [n, d] for rows of modality and content, a text in UTF-8; NaN for what is refused."""
        vectors = np.full((len(model_input), self.model.card.config.width), np.nan, np.float32)
        modalities = model_input["modality"].to_numpy()
        for modality, encoder in self.encoders.items():
            rows = np.flatnonzero(modalities == modality)
            contents = [bytes(content) for content in model_input["content"].iloc[rows]]
            inputs = [content.decode() for content in contents] if modality == "text" else contents
            encoded = encoder.encode(inputs)
            kept = [row for position, row in enumerate(rows) if position not in encoded.refused]
            vectors[kept] = encoded.vectors
        return vectors


set_model(RegisteredJointModel())
