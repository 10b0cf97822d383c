"""The routing of the Switch classifier, which routes embeddings: one layer, and every item is one token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from aura.experts.dataset import check_vectors
from aura.experts.routing.batch import LayerRouting, RoutedBatch
from aura.experts.routing.table import RoutingTable
from aura.experts.routing.tabulate import CLUSTERS, Items, Origin, embedding_clusters, tabulate
from aura.experts.routing.tally import LayerForm, RoutingTally

if TYPE_CHECKING:
    from aura.experts.gating import Routing
    from aura.experts.model import ExpertModel

NAME = "expert_model"
"""What routing tables call the model."""


def route(
    model: ExpertModel,
    vectors: np.ndarray,
    labels: Sequence[str | None],
    item_ids: Sequence[str],
    *,
    clusters: int = CLUSTERS,
    seed: int = 0,
) -> RoutingTable:
    """Send all items through the trained router, in batches of the training's size in order of item id.

    The order of the rows does not matter, and the same input gives the same bits on one machine.

    Args:
        model: The trained model.
        vectors: [n, d] float32, finite, n > 0.
        labels: One label or None per vector.
        item_ids: One id per vector.
        clusters: Clusters of the vectors that the routing is compared with.
        seed: Seed of the clusters and of the shuffles.

    Returns:
        The routing table, of one layer.

    Raises:
        ValueError: The input is malformed or of another dimension than the model.
    """
    check_vectors(vectors, labels, item_ids)
    _check_dimension(model, vectors)
    order = sorted(range(len(item_ids)), key=lambda row: item_ids[row])
    ordered = vectors[order]
    config = model.card.config
    form = LayerForm(name="switch", stack="decoder", experts=config.experts, top_k=1, scoring="softmax")
    tally = RoutingTally([form], len(order))
    start = 0
    for routing in _routings(model, ordered):
        tally.add(_as_batch(routing, start))
        start += len(routing.choices)
    items = Items(
        ids=[item_ids[row] for row in order],
        labels=[labels[row] for row in order],
        clusters=embedding_clusters(ordered, clusters, seed=seed),
    )
    origin = Origin(
        model=NAME,
        fingerprint=model.card.data_digest,
        batch_size=config.batch_size,
        capacity_factor=config.capacity_factor,
    )
    return tabulate(tally, items, origin, seed=seed)


def router_probabilities(model: ExpertModel, vectors: np.ndarray) -> np.ndarray:
    """What the router gives each expert for each item, before capacity.

    Args:
        model: The trained model.
        vectors: [n, d] float32, finite, n > 0.

    Returns:
        float32 [n, experts]; each row sums to 1.

    Raises:
        ValueError: The vectors are of another dimension than the model.
    """
    _check_dimension(model, vectors)
    probabilities: np.ndarray = np.concatenate(
        [each.probabilities.numpy() for each in _routings(model, vectors.copy())]
    )
    return probabilities


def _as_batch(routing: Routing, start: int) -> RoutedBatch:
    """The routing of the items from `start` on, one token each."""
    layer = LayerRouting(
        probabilities=routing.probabilities.numpy(),
        experts=routing.choices.numpy(),
        weights=routing.weights.numpy(),
        kept=routing.kept.numpy(),
    )
    return RoutedBatch(texts=start + np.arange(len(routing.choices)), tokens={}, layers=(layer,))


def _check_dimension(model: ExpertModel, vectors: np.ndarray) -> None:
    if len(vectors) == 0 or vectors.shape[1] != model.card.dimension:
        raise ValueError(f"vectors are {list(vectors.shape)}; expected [at least 1, {model.card.dimension}]")


def _routings(model: ExpertModel, vectors: np.ndarray) -> list[Routing]:
    """The routing of each batch of the training's size."""
    import torch

    from aura.experts.reproducible import reproducible

    config = model.card.config
    module = model.to_module()
    with torch.no_grad(), reproducible(config.threads):
        batches = torch.split(torch.from_numpy(vectors), config.batch_size)
        return [module.route(batch, config.capacity_factor) for batch in batches]
