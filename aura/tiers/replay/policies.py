"""The policies by name."""

from __future__ import annotations

from aura.tiers.replay.policy import Policy
from aura.tiers.replay.portfolio import CANDIDATES, PLAIN, RANKINGS, Portfolio
from aura.tiers.replay.ranked import Ranked

PORTFOLIO = "portfolio"
POLICIES = (*CANDIDATES, PORTFOLIO)


def make_policy(name: str, capacity: int, *, object_bytes: float = 1.0) -> Policy:
    """Make an empty cache.

    Args:
        name: One of `POLICIES`.
        capacity: Bytes; with sizes of one, objects.
        object_bytes: Roughly the bytes of one object.

    Raises:
        ValueError: There is no such policy, or the capacity is below one.
    """
    if name == PORTFOLIO:
        return Portfolio(capacity, object_bytes=object_bytes)
    if name in RANKINGS:
        return Ranked(capacity, RANKINGS[name]())
    if name not in PLAIN:
        raise ValueError(f"there is no policy {name!r}; there are {', '.join(POLICIES)}")
    return PLAIN[name](capacity)
