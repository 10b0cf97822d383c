"""How the graph is cut: one partition per corpus source, one per seed of a comparison."""

from __future__ import annotations

import dagster as dg

from aura.experts.language.presets import SEEDS

sources = dg.DynamicPartitionsDefinition(name="sources")
"""The corpus sources by name. `aura sources add` registers one; a sensor turns it into a partition."""

seeds = dg.StaticPartitionsDefinition([str(seed) for seed in SEEDS])
"""The seeds with which language models are trained."""
