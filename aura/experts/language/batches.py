"""The order in which a training reads its text: a function of the seed and the step alone."""

from __future__ import annotations

import numpy as np
import torch  # noqa: TID253 - gives tensors; nothing light imports this module

from aura.experts.language.presets import LanguageConfig
from aura.experts.language.tokens import LanguageText


class Batches:
    """Sequences of the training text, each once in a pass, in an order that is drawn anew for each pass.

    Args:
        text: Its training part is cut into sequences that do not overlap.
        config: Gives sequence, batch and seed.

    Raises:
        ValueError: The text has fewer sequences than a batch.
    """

    def __init__(self, text: LanguageText, config: LanguageConfig) -> None:
        tokens = np.concatenate([np.asarray(domain) for domain in text.training.values()])
        count = len(tokens) // config.sequence
        if count < config.batch:
            raise ValueError(
                f"{len(tokens)} tokens to learn from make {count} sequences of {config.sequence}, fewer than a batch "
                f"of {config.batch}: give more text, or smaller sizes"
            )
        self.sequences = tokens[: count * config.sequence].reshape(count, config.sequence)
        self.batch = config.batch
        self.seed = config.seed
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    def of(self, step: int) -> torch.Tensor:
        """The tokens of a step [batch, sequence] int64."""
        places = np.arange(step * self.batch, (step + 1) * self.batch)
        rows = [self._pass(int(place) // len(self.sequences))[place % len(self.sequences)] for place in places]
        return torch.from_numpy(self.sequences[rows].astype(np.int64))

    def _pass(self, number: int) -> np.ndarray:
        if self._order[0] != number:
            self._order = number, np.random.default_rng((self.seed, number)).permutation(len(self.sequences))
        return self._order[1]
