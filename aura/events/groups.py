"""The consumer groups of AURA: who tells the log how far it has come, for `aura events lag` and the dashboard.

Belongs here: their names. Does not: reading, committing.
"""

from __future__ import annotations

from aura.events.projections import PROJECTIONS

CORPUS_SENSOR = "sensor corpus_items"
REQUESTS_SENSOR = "sensor expert_requests"

GROUPS = (CORPUS_SENSOR, REQUESTS_SENSOR, *(projection.group for projection in PROJECTIONS.values()))
"""All of them."""
