"""Actions that change something: they ask first, and report what came of it.

Belongs here: the dialog, and what Dagster is asked to do. Does not: what an action does.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from aura.events.errors import EventError
from aura.overview.dagster_api import DagsterError
from aura.tiers.errors import StoreError
from aura.tiers.replay.readers import TraceError

ERRORS = (DagsterError, EventError, StoreError, TraceError)
"""What an action raises when it cannot be done; the message has the remedy."""


def confirm(question: str, act: Callable[[], str]) -> None:
    """Ask in a dialog, and act if the answer is yes.

    Args:
        question: What will happen.
        act: Does it; gives what came of it, in a sentence.
    """

    @st.dialog("Are you sure?")
    def ask() -> None:
        st.write(question)
        if st.button("Yes, do it", type="primary"):
            try:
                st.success(act())
            except ERRORS as error:
                st.error(str(error))

    ask()
