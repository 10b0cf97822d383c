"""What can go wrong with the graph, each error with the thing and the remedy."""

from __future__ import annotations


class GraphError(Exception):
    """Base of every error of the graph."""


class GraphValueError(GraphError, ValueError):
    """A key, a property or a bound that the graph does not take; nothing was written."""


class MissingNodeError(GraphError, LookupError):
    """An edge was to be written whose end is no node; nothing of the batch was written."""


class GraphLimitError(GraphError):
    """The answer would be larger than a reader can use; the question has to be narrower."""


class GraphUnavailableError(GraphError, ConnectionError):
    """The graph did not answer, or not in time."""
