"""Which pictures show a published value, by the name of its asset.

Belongs here: the list. Does not: drawing (the capabilities' `plots`), reading values (`values`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Picture:
    """One picture of a value.

    Attributes:
        title: What it shows.
        function: Where it is drawn, as "module:function"; gives PNG bytes.
        wanted: Whether this value has something to show there.
        of: What of the value the function takes.
    """

    title: str
    function: str
    wanted: Callable[[Any], bool] = lambda _: True
    of: Callable[[Any], Any] = lambda value: value

    def draw(self, value: object) -> bytes:
        """PNG bytes."""
        module, _, name = self.function.partition(":")
        drawn: bytes = getattr(importlib.import_module(module), name)(self.of(value))
        return drawn


_SCATTER = Picture("The vectors on their first two principal components", "aura.embeddings.plots:scatter")
_DIAGRAM = (
    Picture("Persistence diagram, with what is certified", "aura.topology.plots:persistence_diagram"),
    Picture("Barcode", "aura.topology.plots:barcode"),
    Picture("Betti curves", "aura.topology.plots:betti_curves"),
)
_DRIFT = (
    Picture("Both tests: what chance gives, the threshold, what was observed", "aura.topology.drift.plots:drift_plot"),
)

PICTURES: dict[str, tuple[Picture, ...]] = {
    "corpus_manifest": (Picture("Items per label", "aura.corpus.plots:plot_labels"),),
    "text_embeddings": (_SCATTER,),
    "image_embeddings": (_SCATTER,),
    "audio_embeddings": (_SCATTER,),
    "joint_embeddings": (_SCATTER,),
    "fused_embeddings": (_SCATTER,),
    "embedding_diagrams": _DIAGRAM,
    "image_embedding_diagrams": _DIAGRAM,
    "diagram_vectors": (
        Picture("Persistence images", "aura.topology.plots:persistence_images"),
        Picture("Landscapes", "aura.topology.plots:landscape_curves"),
    ),
    "averaged_landscapes": (
        Picture("Averaged landscapes with their bootstrap band", "aura.topology.plots:landscape_band"),
    ),
    "expert_model": (Picture("Training of the Switch model and its dense twin", "aura.experts.plots:plot_training"),),
    "expert_routing_table": (
        Picture("How evenly the experts are loaded", "aura.experts.plots:plot_expert_load"),
        Picture("Share of each label on each expert", "aura.experts.plots:plot_label_experts"),
        Picture(
            "Experts that are chosen together",
            "aura.experts.plots:plot_coactivation",
            lambda table: table.coactivation.num_rows > 0,
        ),
        Picture(
            "Where the tokens of an expert go next",
            "aura.experts.plots:plot_transitions",
            lambda table: table.transitions.num_rows > 0,
        ),
    ),
    "request_activations": (Picture("Tokens by layer and expert", "aura.experts.plots:plot_activations"),),
    "moe_versus_dense": (
        Picture("Differences over the seeds", "aura.experts.language.plots:plot_differences"),
        Picture("Learning curves", "aura.experts.language.plots:plot_curves", of=lambda comparison: comparison.cards),
    ),
    "language_models": (
        Picture("Learning curves", "aura.experts.language.plots:plot_curves", of=lambda models: [models.card]),
    ),
    "embedding_drift": _DRIFT,
    "network_drift": _DRIFT,
    "tier_profile": (Picture("Latency by size, tier and operation", "aura.tiers.planning.plots:plot_profile"),),
    "tier_placement": (
        Picture("Bytes per tier, latency and cost, before and after", "aura.tiers.planning.plots:plot_placement"),
        Picture("Size of each tier and cost of an access over time", "aura.tiers.planning.plots:plot_history"),
    ),
}
"""By asset; one that is not in it has none."""
