"""Choosing what a page shows."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import streamlit as st

from aura.overview.stored import StoredValue


def picked_partition(
    values: Sequence[StoredValue], names: Collection[str], key: str, label: str = "Source"
) -> str | None:
    """The partition that the visitor chose among those that have one of these values; None where none has.

    Args:
        values: What is published.
        names: The assets that are meant.
        key: Of the choice, on its page.
        label: What the partitions are.
    """
    partitions = sorted({value.partition for value in values if value.name in names and value.partition is not None})
    if not partitions:
        return None
    if len(partitions) == 1:
        return partitions[0]
    chosen: str = st.selectbox(label, partitions, key=key)
    return chosen
