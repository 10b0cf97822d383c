"""How well a joint model understands people whom it has never heard: one training per speaker.

Belongs here: leaving speakers out in turn. Does not: what is measured of each model (`aura.embeddings.joint.held_out`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from aura.embeddings.joint.config import JointConfig
from aura.embeddings.joint.data import JointData
from aura.embeddings.joint.errors import NotTrainableError
from aura.embeddings.joint.prepare import prepare
from aura.embeddings.joint.reproducible import reproducible
from aura.embeddings.joint.split import HeldOut
from aura.embeddings.joint.training import CheckpointPlan, train_prepared
from aura.embeddings.joint.unheard import UnheardSpeaker, UnheardSpeakers

MIN_SPEAKERS = 3
MIN_SPEAKER_ITEMS = 10


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
