"""The corpus, and what is near to a text, an image or a sound."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from app.frame import PICTURES_EVERY_SECONDS, Frame, draw_absence, made_at
from app.pick import picked_partition
from aura.corpus.manifest import CorpusManifest
from aura.embeddings.errors import EmbeddingError
from aura.overview import markup
from aura.search.errors import SearchError
from aura.search.finding import Found, find_published
from aura.search.places import WITHIN, Within
from aura.search.query import Query, content_query
from aura.tiers.catalog import Catalog
from aura.tiers.errors import StoreError
from aura.tiers.published import CatalogError

TITLE = "Corpus"
SUBTITLE = "what there is, and what is near to what"
ICON = ":material/search:"

ANYTHING = "items like the query"
COUNTS = (5, 10, 20, 50)
LISTED = 500
"""Items that were set aside, at most so many in the list."""


def draw(frame: Frame) -> None:
    """Draw the page."""
    frame.part(draw_search, "search")
    st.header("Items", anchor=False)
    frame.part(draw_corpus, "corpus", PICTURES_EVERY_SECONDS)


def draw_search(frame: Frame) -> None:
    """The question and its answer."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        text = st.text_input("Search", placeholder="a sentence", key="query")
        place = st.selectbox("In", [ANYTHING, *WITHIN], key="within", width=220)
        count = st.selectbox("Show", COUNTS, index=1, key="count", width=100)
    given = st.file_uploader("or an image, a sound or a text file", key="file", label_visibility="collapsed")
    try:
        query = content_query(given.getvalue(), given.name) if given is not None else _sentence(text)
        if query is not None:
            draw_found(_found(frame, query, next((name for name in WITHIN if name == place), None), count))
    except (SearchError, EmbeddingError, StoreError, CatalogError) as error:
        st.html(markup.remedy("There is no answer", str(error)))


def _sentence(text: str) -> Query | None:
    return Query("text", text, text) if text.strip() else None


def _found(frame: Frame, query: Query, within: Within | None, count: int) -> Found:
    with st.spinner("Searching; the first question loads the model ..."):
        catalog = Catalog(frame.readers.store.joined())
        return find_published(catalog, frame.settings, query, within=within, count=count)


def draw_found(found: Found) -> None:
    """The nearest items with their previews."""
    answer = found.answer
    st.html(markup.note(f"{answer.query.shown}: the nearest of {answer.searched:,} items, by {answer.model}"))
    st.html(markup.hits(found.hits, found.previews))


def draw_corpus(frame: Frame) -> None:
    """What a source holds, and what was set aside."""
    values = frame.values()
    draw_absence(values, "What is published is not known", str(frame.settings.store_directory))
    if values.value is None:
        return
    partition = picked_partition(values.value, ("corpus_manifest",), "corpus-source")
    if partition is None:
        nothing = "`make demo` lists the built-in sources, `aura sources add notes ~/notes` a directory of your own."
        st.html(markup.remedy("No source is listed yet", nothing, alarm=False))
        return
    shown = frame.shown("corpus_manifest", partition, CorpusManifest)
    if shown is None:
        return
    manifest = shown.value
    st.html(markup.note(made_at(datetime.fromisoformat(shown.published.created_at))))
    st.dataframe(manifest.counts().to_pandas(), hide_index=True)
    for caption, png in shown.pictures():
        st.image(png, caption=caption)
    aside = manifest.set_aside()
    if aside.num_rows:
        with st.expander(f"{aside.num_rows:,} items are set aside"):
            st.dataframe(aside.slice(0, LISTED).to_pandas(), hide_index=True)
