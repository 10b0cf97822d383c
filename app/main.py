"""The dashboard: `streamlit run app/main.py`.

Belongs here: which pages there are. Does not: their content (`views`), what they share (`frame`), their charts
(`charts`), reading and the look of figures (`aura.overview`). The pages look on: they own no store and hold no
definitions.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app.frame import Frame, draw_again_if_waiting, draw_head
from app.views import events, experts, overview, search, system, tiers, topology
from aura.overview import markup
from aura.settings import SettingsError, load_settings

HERE = Path(__file__).parent

VIEWS = (overview, search, topology, experts, tiers, events, system)
"""The pages in order; the first is the one that opens."""


def main() -> None:
    """Draw the page that the address names."""
    st.set_page_config(page_title="AURA", page_icon=str(HERE / "icon.svg"), layout="wide")
    st.html(markup.STYLE)
    try:
        settings = load_settings()
    except SettingsError as error:
        st.html(markup.remedy("The settings cannot be read", str(error)))
        return
    frames: list[Frame] = []
    pages = [
        st.Page(
            lambda view=view: view.draw(frames[0]),
            title=view.TITLE,
            icon=view.ICON,
            url_path=view.TITLE.lower().replace(" ", "-"),
            default=view is VIEWS[0],
        )
        for view in VIEWS
    ]
    chosen = st.navigation(pages, position="top")
    frames.append(draw_head(settings, next(view.SUBTITLE for view in VIEWS if chosen.title == view.TITLE)))
    chosen.run()
    draw_again_if_waiting()


if __name__ == "__main__":
    main()
