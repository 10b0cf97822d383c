"""How well a joint model understands people whom it has never heard: one training per speaker.

Belongs here: leaving speakers out in turn. Does not: what is measured of each model (`aura.embeddings.joint.held_out`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from aura.embeddings.joint.card import canonical_json, parsed
from aura.embeddings.joint.config import JointConfig
from aura.embeddings.joint.data import JointData
from aura.embeddings.joint.errors import NotTrainableError
from aura.embeddings.joint.evaluation import Evaluation
from aura.embeddings.joint.prepare import prepare
from aura.embeddings.joint.reproducible import reproducible
from aura.embeddings.joint.split import HeldOut
from aura.embeddings.joint.training import CheckpointPlan, train_prepared

MIN_SPEAKERS = 3
MIN_SPEAKER_ITEMS = 10


@dataclass(frozen=True)
class UnheardSpeaker:
    """What a model reaches that has never heard one of the speakers.

    Attributes:
        speaker: Who was left out.
        sounds: Items of this speaker, all held out.
        evaluation: Held-out results; texts and images are those of every other training.
    """

    speaker: str
    sounds: int
    evaluation: Evaluation


@dataclass(frozen=True)
class UnheardSpeakers:
    """The results of leaving each speaker out in turn.

    Attributes:
        speakers: One entry per speaker, by name.
        cpu_s: CPU seconds of all of it.
    """

    speakers: tuple[UnheardSpeaker, ...]
    cpu_s: float

    def mean_recall(self, query: str, gallery: str) -> float:
        """Mean over speakers of the recall@1 of an ordered pair; raises KeyError where it was not measured."""
        return fmean(entry.evaluation.recall(query, gallery) for entry in self.speakers)

    def to_json(self) -> bytes:
        """Canonical JSON, UTF-8."""
        return canonical_json(self)

    @classmethod
    def from_json(cls, text: bytes | str) -> UnheardSpeakers:
        """Read it back; raises JointModelError for anything else."""
        return parsed(cls, text, "results of leaving speakers out")


def speakers_of(data: JointData) -> tuple[str, ...]:
    """Speakers of at least ten sounds, sorted."""
    counts = Counter(item.speaker for item in data.items.get("audio", ()) if item.speaker is not None)
    return tuple(sorted(speaker for speaker, count in counts.items() if count >= MIN_SPEAKER_ITEMS))


def leave_one_speaker_out(
    data: JointData,
    config: JointConfig | None = None,
    *,
    checkpoints: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> UnheardSpeakers:
    """Train once per speaker on everything but this speaker's sounds, and measure on these.

    Args:
        data: Items with sounds of at least three known speakers.
        config: Settings of each training.
        checkpoints: A directory that keeps the state of each training; a killed call goes on from there.
        progress: Called with (steps done, steps in all), over all trainings.

    Raises:
        NotTrainableError: Too few speakers.
    """
    config = config or JointConfig()
    names = speakers_of(data)
    if len(names) < MIN_SPEAKERS:
        raise NotTrainableError(
            f"leaving speakers out in turn needs {MIN_SPEAKERS} speakers of {MIN_SPEAKER_ITEMS} sounds each; this "
            f"source has {len(names)}"
        )
    start = time.process_time()
    results = []
    with reproducible(config.threads):
        prepared = prepare(data, config)
        for number, speaker in enumerate(names):
            report = _shifted(progress, number * config.steps, len(names) * config.steps)
            plan = None if checkpoints is None else CheckpointPlan(checkpoints / f"without-{number:03d}.safetensors")
            model = train_prepared(prepared, config, HeldOut(speaker=speaker), plan, report)
            sounds = model.card.items["audio"].held_out
            results.append(UnheardSpeaker(speaker, sounds, model.card.evaluation))
    return UnheardSpeakers(tuple(results), time.process_time() - start)


def _shifted(progress: Callable[[int, int], None] | None, before: int, total: int) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, _: progress(before + done, total)
