"""What has to hold for a joint model that is of use."""

from __future__ import annotations

from aura.embeddings.joint.published import JointReport, TrainedSpace
from aura.embeddings.spaces import PublishedSpace
from aura.measure.checks import CheckResult


def better_than_chance(space: PublishedSpace) -> CheckResult:
    """Check that the interval of every recall@1 on held-out items lies above chance; a configured model passes."""
    if not isinstance(space, TrainedSpace):
        return CheckResult(passed=True, figures={}, description="The model is configured and was not trained here.")
    entries = space.model.card.evaluation.retrieval
    weak = [f"{e.query} to {e.gallery}" for e in entries if e.recall_at_1.low <= e.chance_recall_at_1]
    return CheckResult(
        passed=not weak,
        figures={f"recall_{e.query}_to_{e.gallery}": e.recall_at_1.value for e in entries},
        description=f"{len(entries) - len(weak)} of {len(entries)} ordered pairs of modalities are surely better than "
        f"chance" + (f", not so {', '.join(weak)}" if weak else ""),
    )


def understands_strangers(report: JointReport) -> CheckResult:
    """Check that the sounds of each speaker left out of training find their texts more often than by chance."""
    if report.speakers is None:
        return CheckResult(passed=True, figures={}, description="There are too few speakers to leave one out.")
    shares: dict[str, float] = {}
    weak = []
    for left_out in report.speakers.speakers:
        for entry in left_out.evaluation.retrieval:
            if (entry.query, entry.gallery) == ("audio", "text"):
                shares[left_out.speaker] = entry.recall_at_1.value
                if entry.recall_at_1.low <= entry.chance_recall_at_1:
                    weak.append(left_out.speaker)
    return CheckResult(
        passed=not weak,
        figures={f"recall_{speaker}": share for speaker, share in shares.items()},
        description=f"{len(shares) - len(weak)} of {len(shares)} speakers are understood without having been heard "
        f"before" + (f", not so {', '.join(weak)}" if weak else ""),
    )
