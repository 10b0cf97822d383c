"""What joint models reach with people whom they have never heard, as plain figures.

Belongs here: the results, light to import. Does not: the trainings behind them (`aura.embeddings.joint.speakers`).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from aura.embeddings.joint.card import read_json
from aura.embeddings.joint.evaluation import Evaluation
from aura.tiers.canonical_json import canonical_json


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
        return read_json(cls, text, "results of leaving speakers out")
