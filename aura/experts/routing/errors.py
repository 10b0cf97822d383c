"""What can go wrong between a model's name and a routing table."""

from __future__ import annotations


class RoutingError(Exception):
    """Base of every error of this package."""


class NotAMixtureError(RoutingError):
    """A model has no sparse layers, or none whose routing can be read."""


class RoutedModelError(RoutingError):
    """A model or its tokenizer cannot be opened, or does not fit what it is compared with."""


class ExpertLayoutError(RoutingError):
    """A checkpoint is not laid out as it should be."""
