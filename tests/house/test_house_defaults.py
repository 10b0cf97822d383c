"""The defaults of the settings are those of the domain: a notebook and the graph compute the same."""

from __future__ import annotations

from dataclasses import asdict

from aura.corpus.sources import DEFAULT_OPTIONS
from aura.experts.config import ExpertConfig
from aura.experts.routing.tabulate import CLUSTERS
from aura.settings_sections import CorpusSettings, ExpertSettings, TierSettings, TopologySettings
from aura.tiers.budgets import TierBudgets
from aura.topology.persistence import CPU_SECONDS, LANDMARKS, MEMORY_BYTES


def test_experts():
    assert ExpertSettings().training.items() <= asdict(ExpertConfig()).items()
    assert ExpertSettings().clusters == CLUSTERS


def test_routed_texts():
    from aura.experts.routing.capture import TOKENS

    assert ExpertSettings().routed_tokens == TOKENS


def test_topology():
    ours = TopologySettings()
    assert (ours.landmarks, ours.time_limit_seconds, ours.memory_limit) == (LANDMARKS, CPU_SECONDS, MEMORY_BYTES)


def test_tiers():
    ours, domain = TierSettings(), TierBudgets()
    assert (ours.process_bytes, ours.arena_bytes) == (domain.process_bytes, domain.arena_bytes)


def test_corpus():
    ours = CorpusSettings()
    assert (ours.max_file_bytes, ours.max_text_bytes) == (DEFAULT_OPTIONS.file_bytes, DEFAULT_OPTIONS.text_bytes)
