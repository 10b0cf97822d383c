"""What lives on which memory tier, and what that gains."""

from __future__ import annotations

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from app.actions import confirm
from app.charts import tier_charts
from app.frame import PICTURES_EVERY_SECONDS, TIERS_EVERY_SECONDS, Frame, as_of, draw_absence, draw_pictures
from aura.overview import markup
from aura.overview.replays import LIMIT, Replayed, own_trace, replayed, uploaded_trace
from aura.overview.stored import RECENT_SECONDS
from aura.tiers.replay.readers import FORMATS, Format

TITLE = "Tiers"
SUBTITLE = "what lives where, and what that gains"
ICON = ":material/memory:"

REPLAYED = "replayed"
RECOGNISED = "by its content"


def draw(frame: Frame) -> None:
    """Draw the page."""
    frame.start(frame.tiers, frame.values)
    st.header("Now", anchor=False)
    frame.part(draw_tiers, "tiers", TIERS_EVERY_SECONDS)
    st.header("The last placement", anchor=False)
    frame.part(draw_placement, "placement", PICTURES_EVERY_SECONDS)
    if not frame.settings.services.dashboard_read_only:
        st.header("Which policy would have missed least?", anchor=False)
        draw_replay(frame)


def draw_tiers(frame: Frame) -> None:
    """One card per tier that the machine has, and what they have done while somebody looked."""
    tiers = frame.tiers()
    draw_absence(tiers, "The memory tiers are not known", str(frame.settings.store_directory))
    if tiers.value is None:
        return
    window = f"Recent is the last {RECENT_SECONDS:.0f} s at most; L2 is also read without the owner, uncounted."
    st.html(markup.note(f"{as_of(tiers)} {window}") + markup.tier_cards(tiers.value))
    rates = frame.readers.store.rates(frame.window)
    if rates:
        with st.container(horizontal=True, gap="small"):
            for chart in tier_charts(rates):
                st.vega_lite_chart(chart, width=400)
        st.html(markup.note(f"Sampled every {TIERS_EVERY_SECONDS:g} s while somebody looks."))
    values = frame.values()
    if values.value:
        st.html(markup.note(f"{as_of(values)} Bytes of each published value by the fastest tier that holds them."))
        st.html(markup.value_tiers(values.value))


def draw_placement(frame: Frame) -> None:
    """What the tiers cost here, and the placement before and after."""
    values = frame.values()
    draw_absence(values, "What is published is not known", str(frame.settings.store_directory))
    if values.value is None:
        return
    published = {value.name for value in values.value}
    for name in ("tier_placement", "tier_profile"):
        if name in published:
            draw_pictures(frame.shown(name, None, object))
    if not published & {"tier_placement", "tier_profile"}:
        st.html(markup.note("No placement is published: materialize `tier_profile` and `tier_placement`."))


def draw_replay(frame: Frame) -> None:
    """A trace through every policy: the store's own accesses, or a file."""
    st.html(markup.note(f"At most {LIMIT:,} accesses are replayed through every policy and the offline optimum."))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        given = st.file_uploader("A trace; without one, the store's own access log", key="trace")
        layout = st.selectbox("Format", [RECOGNISED, *FORMATS], key="format", width=220)
    if st.button("Replay ..."):
        about = f"the trace {given.name}" if given is not None else "the store's own access log"
        chosen = next((each for each in FORMATS if each == layout), None)
        confirm(f"Replay {about}? It takes some seconds of one core.", lambda: _replay(frame, given, chosen))
    result = st.session_state.get(REPLAYED)
    if isinstance(result, Replayed):
        st.image(result.png)


def _replay(frame: Frame, given: UploadedFile | None, layout: Format | None) -> str:
    if given is None:
        trace = own_trace(frame.readers.store.joined())
    else:
        trace = uploaded_trace(given.getvalue(), given.name, layout)
    bar = st.progress(0.0, "Replaying ...")
    st.session_state[REPLAYED] = replayed(trace, lambda _said, part: bar.progress(part, "Replaying ..."))
    bar.empty()
    return f"{len(trace):,} accesses were replayed; close this to see the curves."
