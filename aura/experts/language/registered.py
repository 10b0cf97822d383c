"""The served form of a language model with experts: the script that MLflow runs to load it ("models from code").

It opens the model with this package, which has to be installed where it runs.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import torch  # noqa: TID253 - run by MLflow itself; nothing else imports this script
from mlflow.models import set_model  # noqa: TID253
from mlflow.pyfunc.model import PythonModel, PythonModelContext  # noqa: TID253
from torch.nn.functional import cross_entropy  # noqa: TID253
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: TID253

import aura.experts.language.model  # noqa: F401 - makes the type known to transformers


class RegisteredLanguageModel(PythonModel):
    """Says how many bits it needs for texts; the twin and the files are beside it as artifacts."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read artifacts["moe"], a directory of `transformers`."""
        directory = Path(context.artifacts["moe"])
        self.tokenizer = AutoTokenizer.from_pretrained(directory)
        self.model = AutoModelForCausalLM.from_pretrained(directory, use_safetensors=True).train(mode=False)

    @torch.no_grad()
    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 - MLflow's signature
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,  # noqa: ARG002
    ) -> pd.DataFrame:
        """Bits per byte of the column "text", cut off at the model's context; the end of a text stands before it."""
        rows = []
        for text in model_input["text"]:
            ids = self.tokenizer(text, return_tensors="pt").input_ids[:, : self.model.config.max_position_embeddings]
            begun = torch.cat([torch.full((1, 1), self.model.config.bos_token_id), ids], dim=1)
            nats = cross_entropy(self.model(input_ids=begun).logits[0, :-1], ids[0], reduction="sum").item()
            size = len(str(self.tokenizer.decode(ids[0])).encode())
            rows.append({"bits_per_byte": nats / math.log(2) / size if size else math.nan, "tokens": ids.shape[1]})
        return pd.DataFrame(rows)


set_model(RegisteredLanguageModel())
