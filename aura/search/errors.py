"""What can go wrong between a question and its neighbours."""

from __future__ import annotations


class SearchError(Exception):
    """A query cannot be answered; the message says why, and what to do."""


class SearchIndexError(SearchError):
    """Parts that do not make up a search index."""
