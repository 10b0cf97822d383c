"""Actions that change something: they ask first, and report what came of it.

Belongs here: the dialog, and what Dagster is asked to do. Does not: what an action does.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from app.frame import ASKING
from aura.events.errors import EventError
from aura.overview import markup
from aura.overview.dagster_api import DagsterError
from aura.tiers.errors import StoreError
from aura.tiers.published import CatalogError
from aura.tiers.replay.readers import TraceError

DONE = "action-done"
"""Whether the dialog that is open has acted."""

ERRORS = (DagsterError, EventError, StoreError, CatalogError, TraceError)
"""What an action raises when it cannot be done; the message has the remedy."""


def confirm(question: str, act: Callable[[], str]) -> None:
    """Ask in a dialog, and act if the answer is yes.

    Args:
        question: What will happen.
        act: Does it; gives what came of it, in a sentence.
    """
    st.session_state[DONE] = False
    st.session_state[ASKING] = True

    @st.dialog("Are you sure?", on_dismiss="rerun")
    def ask() -> None:
        st.html(markup.note(question))
        if not st.button("Yes, do it", type="primary"):
            return
        if st.session_state[DONE]:
            st.html(markup.note("That has been done. Close this, and ask again to do it once more."))
            return
        st.session_state[DONE] = True
        try:
            st.html(markup.outcome_panel("Done", act()))
        except ERRORS as error:
            st.html(markup.remedy("It was not done", str(error)))

    ask()
