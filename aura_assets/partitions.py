"""How the graph is cut: one partition per corpus source, per seed of a comparison, per request."""

from __future__ import annotations

import dagster as dg

from aura.experts.language.presets import SEEDS

sources = dg.DynamicPartitionsDefinition(name="sources")
"""The corpus sources by name. `aura sources add` registers one; a sensor turns it into a partition."""

seeds = dg.StaticPartitionsDefinition([str(seed) for seed in SEEDS])
"""The seeds with which language models are trained."""

requests = dg.DynamicPartitionsDefinition(name="requests")
"""The requests that models with experts have answered, by id; a sensor makes them of events."""
