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
        """Bits per byte of the column "text", cut off at the model's context; the end of a text stands before it.

        A text that spells the end of a text is spelled out, as in training. Bits per byte of nothing are NaN.
        """
        rows = [self._row(text) for text in model_input["text"]]
        return pd.DataFrame(rows, columns=["bits_per_byte", "tokens"])

    def _row(self, text: str) -> tuple[float, int]:
        ids = self.tokenizer(text, split_special_tokens=True).input_ids[: self.model.config.max_position_embeddings]
        # A byte-level token has one character for each byte.
        size = sum(len(token) for token in self.tokenizer.convert_ids_to_tokens(ids))
        if not size:
            return math.nan, 0
        before = torch.tensor([[self.model.config.bos_token_id, *ids[:-1]]])
        nats = cross_entropy(self.model(input_ids=before).logits[0], torch.tensor(ids), reduction="sum").item()
        return nats / math.log(2) / size, len(ids)


set_model(RegisteredLanguageModel())
