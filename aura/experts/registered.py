"""The served form of an expert model: the script that MLflow runs to load it ("models from code").

It stands alone, so that it runs where neither aura nor torch is installed: numpy, one forward pass, no dropped items.
MLflow copies this file beside the weights; import nothing of aura here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model  # noqa: TID253 - run by MLflow itself; nothing else imports this script
from mlflow.pyfunc.model import PythonModel, PythonModelContext  # noqa: TID253
from safetensors.numpy import load_file

LAYER_NORM_EPSILON = 1e-5


class RegisteredExpertModel(PythonModel):
    """Predicts the label of vectors and says which expert answered."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read artifacts["weights"] (safetensors) and artifacts["card"] (JSON)."""
        card = json.loads(Path(context.artifacts["card"]).read_text(encoding="utf-8"))
        tensors = load_file(context.artifacts["weights"])
        self.labels = np.array(card["labels"], dtype=object)
        self.router = {name.removeprefix("router/"): array for name, array in tensors.items() if name[:7] == "router/"}
        self.experts = [
            {name: tensors[f"expert-{number:03d}/{name}"] for name in ("w_in", "b_in", "w_out", "b_out")}
            for number in range(card["config"]["experts"])
        ]

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 - MLflow's signature
        model_input: np.ndarray,
        params: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> pd.DataFrame:
        """The label, the expert and its gate for each row of vectors [n, d] (array or DataFrame)."""
        vectors = np.asarray(model_input, dtype=np.float32)
        router = self.router
        standard = (vectors - router["input_mean"]) / router["input_scale"]
        hidden = standard @ router["projection.weight"].T + router["projection.bias"]
        tokens = _layer_norm(hidden, router["norm.weight"], router["norm.bias"])
        logits = tokens @ router["switch.router.weight"].T
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = weights / weights.sum(axis=1, keepdims=True)
        chosen = probabilities.argmax(axis=1)
        gate = probabilities.max(axis=1)
        for number in np.unique(chosen):
            rows, expert = np.flatnonzero(chosen == number), self.experts[number]
            inner = np.maximum(tokens[rows] @ expert["w_in"] + expert["b_in"], 0)
            hidden[rows] += gate[rows, None] * (inner @ expert["w_out"] + expert["b_out"])
        output = _layer_norm(hidden, router["head_norm.weight"], router["head_norm.bias"])
        scores = output @ router["head.weight"].T + router["head.bias"]
        label = self.labels[scores.argmax(axis=1)]
        return pd.DataFrame({"label": label, "expert": chosen.astype(np.int64), "gate": gate.astype(np.float32)})


def _layer_norm(values: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    centred = values - values.mean(axis=1, keepdims=True)
    variance = np.square(centred).mean(axis=1, keepdims=True)
    normed: np.ndarray = centred / np.sqrt(variance + LAYER_NORM_EPSILON) * weight + bias
    return normed


set_model(RegisteredExpertModel())
