"""Questions asked of a home, with previews of what was found: for the command line and for notebooks."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from aura.corpus.errors import CorpusError
from aura.corpus.opening import open_registered
from aura.corpus.registry import SourceRegistry
from aura.embeddings.opening import Encoders
from aura.search.index import NEIGHBOURS
from aura.search.places import Within
from aura.search.preview import Preview, preview
from aura.search.query import Query, read_query
from aura.search.searcher import Answer, Hit, Searcher
from aura.settings import Settings
from aura.settings_sections import EmbeddingSettings
from aura.tiers.catalog import Catalog


@dataclass(frozen=True)
class Found:
    """An answer with its previews, in the same order; a notebook shows it as a table."""

    answer: Answer
    previews: Sequence[Preview]

    @property
    def hits(self) -> tuple[Hit, ...]:
        """The nearest items first."""
        return self.answer.hits

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{hit.score:.3f}</td><td>{html.escape(hit.label or '')}</td>"
            f"<td style='text-align:left'>{shown.html()}</td>"
            f"<td style='text-align:left'>{html.escape(hit.source)}: {html.escape(hit.uri)}</td></tr>"
            for hit, shown in zip(self.hits, self.previews, strict=True)
        )
        head = "<tr><th>cosine</th><th>label</th><th>preview</th><th>item</th></tr>"
        asked, model = html.escape(self.answer.query.shown), html.escape(self.answer.model)
        return f"<table><caption>{asked} - {self.answer.searched:,} items, {model}</caption>{head}{rows}</table>"


def find_published(
    catalog: Catalog,
    settings: Settings,
    query: str | Path | Query,
    *,
    within: Within | None = None,
    source: str | None = None,
    count: int = NEIGHBOURS,
) -> Found:
    """Answer a question and fetch what is to be shown; see `aura.find`. A `Query` is taken as it is."""
    searcher = _searcher(settings.home, settings.embeddings)
    asked = query if isinstance(query, Query) else read_query(query)
    answer = searcher.search(catalog, asked, within=within, source=source, count=count)
    return Found(answer, [_shown(searcher, catalog, settings, hit) for hit in answer.hits])


@lru_cache(maxsize=1)
def _searcher(home: Path, models: EmbeddingSettings) -> Searcher:  # noqa: ARG001  another home has other values
    return Searcher(Encoders(models))


def _shown(searcher: Searcher, catalog: Catalog, settings: Settings, hit: Hit) -> Preview:
    manifest = searcher.manifest(catalog, hit.source)
    try:
        source = open_registered(hit.source, SourceRegistry(settings.sources_file), settings.corpus)
    except CorpusError as error:
        return Preview(hit, f"cannot be read: {error}")
    return preview(hit, manifest, source)
