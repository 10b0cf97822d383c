"""What has to hold for an index that can be trusted."""

from __future__ import annotations

from aura.measure.checks import CheckResult
from aura.search.index import MIN_RECALL, NEIGHBOURS, SearchIndex


def finds_themselves(index: SearchIndex) -> CheckResult:
    """Check that every sampled vector finds itself, or one equal to it, first."""
    shares = {name: part.self_retrieval for name, part in index.card.parts.items()}
    worst = min(shares.values(), default=1.0)
    return CheckResult(
        passed=worst == 1,
        figures={f"self_retrieval_{name}": share for name, share in shares.items()},
        description=f"A vector's nearest neighbour is itself: so it is for {worst:.1%} of those that were tried.",
    )


def finds_neighbours(index: SearchIndex) -> CheckResult:
    """Check that the sampled vectors' nearest neighbours are those of a comparison with all vectors."""
    recalls = {name: part.recall for name, part in index.card.parts.items()}
    worst = min(recalls.values(), default=1.0)
    return CheckResult(
        passed=worst >= MIN_RECALL,
        figures={f"recall_{name}": recall for name, recall in recalls.items()},
        description=f"Of the {NEIGHBOURS} nearest by comparison with all vectors, {worst:.1%} are found "
        f"(at least {MIN_RECALL:.0%}).",
    )
