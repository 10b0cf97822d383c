"""What can go wrong between a source and whoever reads it.

Belongs here: the exceptions that callers of this package meet. Does not: broken items met during a scan, which are not
errors of the scan; they become rows of the manifest with their reason (`aura.corpus.rows`).
"""

from __future__ import annotations


class CorpusError(Exception):
    """Base of every error that a corpus raises."""


class ManifestSchemaError(CorpusError):
    """A table does not hold a manifest: a column, a type or a value is not what the schema says."""


class SourceSpecError(CorpusError):
    """The description of a source is wrong."""


class UnknownSourceError(CorpusError):
    """No source of this name is registered."""


class SourceExistsError(CorpusError):
    """Another source is registered under this name."""


class RegistryError(CorpusError):
    """The registry's file can be neither read nor written."""


class CorpusRootError(CorpusError):
    """The root of a directory source cannot be read, which is not the same as an empty corpus."""


class PathOutsideCorpusError(CorpusError):
    """A path leads out of the corpus root."""


class ItemChangedError(CorpusError):
    """The content behind a uri is no longer the one that the manifest lists."""


class TextItemError(CorpusError):
    """Bytes were asked of a text item, whose text travels in the manifest."""
