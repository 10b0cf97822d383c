"""How well the joint model finds digits by their images, names and recordings, and what fusing two of them gains.

Trained on what the source `digits` lists: scikit-learn's images, the names, and the recordings of the Free Spoken Digit
Dataset in the folder `fsdd` of `--data`. Held out are a fifth of the images, and of the recordings first the takes 0 to
4 of every speaker, then each speaker in turn. Without recordings the pair of images and names is trained.

    python benchmarks/joint_model.py [--data DIR] [--seeds N] [--steps N] [--json]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from report import PROJECT, Figure, as_json, figure, table, tell

from aura.corpus.digits import DigitsSource
from aura.corpus.manifest import CorpusManifest
from aura.embeddings.joint.config import JointConfig
from aura.embeddings.joint.data import JointData, joint_data
from aura.embeddings.joint.evaluation import Evaluation
from aura.embeddings.joint.fusion_gain import Gain, fusion_gain
from aura.embeddings.joint.speakers import leave_one_speaker_out
from aura.embeddings.joint.split import HeldOut
from aura.embeddings.joint.training import train_joint_model

DATA = PROJECT.parent / "shared" / "data"
TEST_TAKES = 5
"""The first takes of each speaker are the data set's own test split."""

NEVER_PAIRED = (("text", "image"), ("image", "audio"))
GOALS = {("image", "text"): 0.97, ("audio", "text"): 0.90}
UNHEARD_GOAL = 0.75


def official(manifest: CorpusManifest) -> HeldOut | None:
    """The recordings of the official test split; None without recordings."""
    sounds = manifest.items("audio").to_pylist()
    takes = [(row["item_id"], int(row["uri"].rpartition("_")[2])) for row in sounds]
    return HeldOut(item_ids=frozenset(item_id for item_id, take in takes if take < TEST_TAKES)) if sounds else None


def retrieval(found: Sequence[Evaluation]) -> list[Figure]:
    """Recall and mean rank of every ordered pair of modalities, a run per seed."""
    figures = []
    for first in found[0].retrieval:
        same = [entry for each in found for entry in each.retrieval if entry.query == first.query]
        same = [entry for entry in same if entry.gallery == first.gallery]
        name = f"{first.query} to {first.gallery}"
        figures.append(
            figure(
                f"{name}, recall at 1",
                [entry.recall_at_1.value for entry in same],
                "share",
                against=f"chance {first.chance_recall_at_1:.3f}",
                goal=GOALS.get((first.query, first.gallery)),
                at_least=True,
            )
        )
        ranks = [entry.mean_rank for entry in same]
        figures.append(figure(f"{name}, mean rank", ranks, "rank", against=f"chance {first.chance_mean_rank:.2f}"))
    return figures


def naming(found: Sequence[Evaluation]) -> list[Figure]:
    """Zero-shot accuracy beside supervised classifiers of one modality, trained on the same items."""
    figures = []
    for number, first in enumerate(found[0].naming):
        entries = [each.naming[number] for each in found]
        zero_shot = [entry.zero_shot.value for entry in entries if entry.zero_shot is not None]
        figures.append(figure(f"{first.modality}, zero-shot", zero_shot, "share", against=f"chance {first.chance:g}"))
        for place, (way, _) in enumerate(first.supervised):
            runs = [entry.supervised[place][1].value for entry in entries]
            figures.append(figure(f"{first.modality}, {way}, supervised", runs, "share"))
    return figures


def gained(gains: Sequence[Gain]) -> list[Figure]:
    """What fused vectors find beyond the better of the two alone."""
    return [
        figure(
            f"fusion, {gain.condition}",
            [gain.gain],
            "share gained",
            against=f"image {gain.image.value:.3f}, sound {gain.audio.value:.3f}; {gain.low:.3f} to {gain.high:.3f}",
        )
        for gain in gains
    ]


def unheard(data: JointData, configs: Sequence[JointConfig]) -> list[Figure]:
    """Names found by the recordings of speakers left out of the training."""
    found = [leave_one_speaker_out(data, config) for config in configs]
    figures = [
        figure(
            "unheard speakers, audio to text, recall at 1, mean",
            [each.mean_recall("audio", "text") for each in found],
            "share",
            against="chance 0.100",
            goal=UNHEARD_GOAL,
            at_least=True,
        )
    ]
    for number, speaker in enumerate(found[0].speakers):
        shares = [each.speakers[number].evaluation.recall("audio", "text") for each in found]
        figures.append(figure(f"unheard {speaker.speaker}, audio to text, recall at 1", shares, "share"))
    for place, (way, _) in enumerate(_sounds(found[0].speakers[0].evaluation)):
        means = [fmean(_sounds(one.evaluation)[place][1] for one in each.speakers) for each in found]
        figures.append(figure(f"unheard speakers, {way}, supervised, mean", means, "share"))
    return figures


def _sounds(evaluation: Evaluation) -> list[tuple[str, float]]:
    entry = next(entry for entry in evaluation.naming if entry.modality == "audio")
    return [(way, share.value) for way, share in entry.supervised]


def main() -> None:
    """Train, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="directory with spoken digits in `fsdd`")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=JointConfig().steps)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args()
    spoken = options.data / "fsdd"
    source = DigitsSource(spoken=spoken if spoken.is_dir() else None)
    if source.spoken is None:
        tell(f"audio is absent: there is no {spoken}")
    manifest = source.scan()
    data, held_out = joint_data(manifest.table, source.read), official(manifest)
    configs = [JointConfig(steps=options.steps, seed=seed) for seed in range(options.seeds)]
    tell("training, known speakers")
    models = [train_joint_model(data, config=config, held_out=held_out) for config in configs]
    found = [model.card.evaluation for model in models]
    figures = [
        figure("parameters", [models[0].card.parameters], "numbers"),
        figure("training", [model.cost.cpu_s for model in models], "CPU s"),
        *retrieval(found),
        *naming(found),
    ]
    if held_out is not None:
        tell("training, audio never paired with text")
        apart = [
            train_joint_model(
                data, config=JointConfig(steps=options.steps, seed=seed, pairs=NEVER_PAIRED), held_out=held_out
            )
            for seed in range(options.seeds)
        ]
        shares = [model.card.evaluation.recall("audio", "text") for model in apart]
        figures.append(figure("audio to text, never paired, recall at 1", shares, "share", against="chance 0.100"))
        tell("fusing")
        figures += gained(fusion_gain(models[0], data, held_out=held_out).gains)
        tell("training, a speaker left out")
        figures += unheard(data, configs)
    if options.json:
        as_json("joint_model", figures)
    else:
        table(figures)


if __name__ == "__main__":
    main()
