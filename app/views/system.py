"""The services with their remedies, and the load of this machine."""

from __future__ import annotations

from datetime import UTC, datetime

import streamlit as st

from app.charts import load_charts
from app.frame import SERVICES_EVERY_SECONDS, Frame, as_of, clock, draw_absence, look_again
from aura.overview import markup, units

TITLE = "System"
SUBTITLE = "the services, and the load of this machine"
ICON = ":material/dns:"

LOAD_EVERY_SECONDS = 2.0
SERVICES_LOOK_SECONDS = 5.0


def draw(frame: Frame) -> None:
    """Draw the page."""
    st.header("This machine", anchor=False)
    frame.part(draw_load, "load", LOAD_EVERY_SECONDS)
    st.header("Services", anchor=False)
    frame.part(draw_services, "services", SERVICES_LOOK_SECONDS)


def draw_load(frame: Frame) -> None:
    """The load now and since somebody has been looking."""
    now = frame.readers.machine.sample(LOAD_EVERY_SECONDS / 2)
    if now is None:
        st.html(markup.note("The first figures come in a moment."))
        look_again()
        return
    st.html(markup.load_tiles(now))
    samples = frame.readers.machine.samples(frame.window)
    since = datetime.now(UTC) - samples[0].taken_at
    every = f"Sampled every {LOAD_EVERY_SECONDS:g} s while somebody looks; here for {units.span(since)}."
    st.html(markup.note(f"As of {clock(now.taken_at)}. {every}"))
    with st.container(horizontal=True, gap="small"):
        for chart in load_charts(samples):
            st.vega_lite_chart(chart, width=420)


def draw_services(frame: Frame) -> None:
    """A real question to each configured service, with the remedy where it fails."""
    services = frame.services()
    draw_absence(services, "The services have not been asked", "their answers")
    if services.value is not None:
        every = f"Asked every {SERVICES_EVERY_SECONDS:.0f} s while somebody looks."
        st.html(markup.note(f"{as_of(services)} {every}"))
        st.html(markup.service_table(services.value))
