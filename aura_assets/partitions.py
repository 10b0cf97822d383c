"""How the graph is cut: one partition per corpus source."""

from __future__ import annotations

import dagster as dg

sources = dg.DynamicPartitionsDefinition(name="sources")
"""The corpus sources by name. `aura sources add` registers one; a sensor turns it into a partition."""
