"""What can go wrong between a model's name and a table of vectors."""

from __future__ import annotations


class EmbeddingError(Exception):
    """Base of every error of this package."""


class EmbeddingTableError(EmbeddingError):
    """A table of embeddings breaks its schema, or holds vectors that are not finite or of another dimension."""


class ModelFilesError(EmbeddingError):
    """The files of a model are missing, incomplete or in a format that is not loaded."""


class HubUnavailableError(ModelFilesError):
    """A model was asked for by its hub name, is not in the local cache, and the hub did not give it."""


class EncodingError(EmbeddingError):
    """A model was loaded and could not do what was asked of it."""


class UnreadableImageError(EmbeddingError):
    """Bytes that are no image that can be decoded."""


class UnreadableSoundError(EmbeddingError):
    """Bytes that are no sound that can be decoded."""


class ClusterError(EmbeddingError):
    """A Ray cluster cannot be used: it is not installed or not there, or its work failed."""
