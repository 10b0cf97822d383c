"""What can go wrong with experts in the tiers."""

from __future__ import annotations


class OffloadError(Exception):
    """Base of every error of this package."""


class ModelFilesError(OffloadError):
    """The directory of a model is missing, incomplete, changed, or holds no experts that can be taken out."""


class UnknownModelError(OffloadError):
    """No model of this name has its experts in the store."""


class NameTakenError(OffloadError):
    """Another model's experts are in the store under this name."""
