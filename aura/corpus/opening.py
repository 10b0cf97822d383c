"""A registered source with the configured options."""

from __future__ import annotations

from aura.corpus.registry import SourceRegistry
from aura.corpus.sources import Source, SourceOptions, open_source
from aura.settings_sections import CorpusSettings


def open_registered(name: str, registry: SourceRegistry, settings: CorpusSettings) -> Source:
    """Open a source by its name; nothing is read yet.

    Raises:
        UnknownSourceError: there is none of this name.
        RegistryError: the registry cannot be read.
    """
    options = SourceOptions(
        file_bytes=int(settings.max_file_bytes),
        text_bytes=int(settings.max_text_bytes),
        spoken_digits=settings.spoken_digits,
    )
    return open_source(registry.get(name), options)
