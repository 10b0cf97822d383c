"""The corpus, and what is near to a text, an image or a sound."""

from __future__ import annotations

import streamlit as st

from app.frame import PICTURES_EVERY_SECONDS, Frame, Question, draw_absence, draw_pictures
from app.pick import picked_partition
from aura.corpus.manifest import CorpusManifest
from aura.overview import markup
from aura.search.errors import SearchError
from aura.search.finding import Found
from aura.search.places import WITHIN
from aura.search.query import Query, content_query

TITLE = "Corpus"
SUBTITLE = "what there is, and what is near to what"
ICON = ":material/search:"

ANYTHING = "items like the query"
EVERYWHERE = "all sources"
COUNTS = (5, 10, 20)
LISTED_BY = "corpus_manifest"
LISTED = 500
"""Items that were set aside, at most so many in the list."""


def draw(frame: Frame) -> None:
    """Draw the page."""
    frame.part(draw_search, "search")
    st.header("Items", anchor=False)
    frame.part(draw_corpus, "corpus", PICTURES_EVERY_SECONDS)


def draw_search(frame: Frame) -> None:
    """The question and its answer."""
    sources = sorted({str(each.partition) for each in frame.values().value or () if each.name == LISTED_BY})
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        text = st.text_input("Search", placeholder="a sentence", key="query")
        place = st.selectbox("In", [ANYTHING, *WITHIN], key="within", width=220)
        source = st.selectbox("Of", [EVERYWHERE, *sources], key="of", width=180)
        count = st.selectbox("Show", COUNTS, index=1, key="count", width=100)
    given = st.file_uploader("or an image, a sound or a text file", key="file", label_visibility="collapsed")
    try:
        query = content_query(given.getvalue(), given.name) if given is not None else _sentence(text)
    except SearchError as error:
        st.html(markup.remedy("There is no answer", str(error)))
        return
    if query is None:
        return
    if given is not None and text.strip():
        st.html(markup.note(f"Searched for is {given.name}; remove it to search for the sentence."))
    within = next((name for name in WITHIN if name == place), None)
    with st.spinner("Searching; the first question loads the model ..."):
        answer = frame.found(Question(query, within, None if source == EVERYWHERE else source, count))
    if answer.value is not None:
        draw_found(answer.value)
    else:
        late = f"No answer for {answer.waited_seconds:.0f} s. Ask again; `aura status` says which services answer."
        st.html(markup.remedy("There is no answer", answer.error or late))


def _sentence(text: str) -> Query | None:
    return Query("text", text, text) if text.strip() else None


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
    partition = picked_partition(values.value, (LISTED_BY,), "corpus-source")
    if partition is None:
        nothing = "`make demo` lists the built-in sources, `aura sources add notes ~/notes` a directory of your own."
        st.html(markup.remedy("No source is listed yet", nothing, alarm=False))
        return
    shown = frame.shown(LISTED_BY, partition, CorpusManifest)
    if shown is None:
        return
    manifest = shown.value
    st.dataframe(manifest.counts().to_pandas(), hide_index=True)
    draw_pictures(shown)
    aside = manifest.set_aside()
    if aside.num_rows:
        with st.expander(f"{aside.num_rows:,} items are set aside"):
            if aside.num_rows > LISTED:
                st.html(markup.note(f"Only the first {LISTED} are listed."))
            st.dataframe(aside.slice(0, LISTED).to_pandas(), hide_index=True)
