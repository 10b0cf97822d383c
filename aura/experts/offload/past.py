"""What earlier processes have published of a model's routing, for a forecast to begin with.

Belongs here: which published values are of a model, read from the catalog. Does not: the forecast (`forecast`), making
those values (the assets `expert_routing_table` and `request_activations`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aura.experts.offload.forecast import Floats, transition_counts
from aura.experts.offload.store import ExpertModel
from aura.experts.routing.requests import RequestActivations
from aura.experts.routing.table import RoutingTable
from aura.tiers.catalog import Catalog

TABLE, REQUESTS = "expert_routing_table", "request_activations"
LOOKED_AT, KEPT = 256, 64
"""Latest published requests that are read, and of those the ones of the model that count, at most."""


def known_transitions(catalog: Catalog, model: ExpertModel) -> Floats | None:
    """The transitions of the latest routing table that was made with this model.

    Returns:
        Counts as `TransitionForecast` takes them, float64[layers - 1, E, E]; None if no table is of these very files.
    """
    published = [each for each in catalog.published() if each.name == TABLE]
    fingerprint: str | None = None
    for each in sorted(published, key=lambda one: one.created_at, reverse=True):
        table = catalog.load_previous(RoutingTable, each.name, each.partition)
        if table is None or table.layers["experts"].to_pylist() != list(model.experts):
            continue
        if fingerprint is None:  # reads all weights: only where a table may be of them
            from aura.experts.routing.capture import model_fingerprint  # loads torch

            fingerprint = model_fingerprint(model.source)
        if table.figures.fingerprint == fingerprint:
            return transition_counts(table.transitions, model.experts)
    return None


def past_activations(catalog: Catalog, model: ExpertModel) -> list[NDArray[np.int64]]:
    """The activations of the latest published requests to a model of this name and shape, int64[layers, E] each."""
    published = [each for each in catalog.published() if each.name == REQUESTS]
    found: list[NDArray[np.int64]] = []
    for each in sorted(published, key=lambda one: one.created_at, reverse=True)[:LOOKED_AT]:
        request = catalog.load_previous(RequestActivations, each.name, each.partition)
        if request is None or request.model != model.name:
            continue
        if request.matrix.shape == (model.layers, max(model.experts)):
            found.append(request.matrix)
        if len(found) == KEPT:
            break
    return found
