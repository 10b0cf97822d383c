"""What can go wrong between items and a trained joint model."""

from __future__ import annotations

from aura.embeddings.errors import EmbeddingError


class NotTrainableError(EmbeddingError):
    """There is too little to learn from; the message says what is missing."""


class JointModelError(EmbeddingError):
    """Parts, a directory or a file that do not make up a joint model or the state of its training."""
