"""Text as the tokens of a model directory, and back.

Belongs here: the tokenizer that lies beside a model. Does not: training one (`aura.experts.language.tokens`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from transformers import AutoTokenizer  # noqa: TID253 - only inference imports this module

from aura.experts.offload.errors import ModelFilesError


class Words:
    """The tokenizer of a model directory."""

    def __init__(self, directory: Path) -> None:
        """Open it.

        Raises:
            ModelFilesError: The directory has none that can be opened without running its code.
        """
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise ModelFilesError(
                f"{directory} has no tokenizer that can be opened ({error}); put tokenizer.json there"
            ) from error

    def tokens(self, text: str) -> list[int]:
        """Ids of a text's tokens.

        Raises:
            ModelFilesError: It has none.
        """
        found = cast("list[int]", self._tokenizer(text)["input_ids"])
        if not found:
            raise ModelFilesError(f"the prompt {text!r} has no tokens; give some text")
        return found

    def text(self, tokens: Sequence[int] | NDArray[np.int64]) -> str:
        """The text of tokens, without those that only control."""
        return cast("str", self._tokenizer.decode([int(token) for token in tokens], skip_special_tokens=True))
