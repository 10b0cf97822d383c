"""One space for texts, images and sounds, and one vector for what has several of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from shutil import rmtree
from statistics import fmean
from typing import Any

import dagster as dg
import pyarrow as pa

from aura.corpus.manifest import CorpusManifest
from aura.corpus.opening import open_registered
from aura.corpus.registry import SourceRegistry
from aura.corpus.rows import MODALITIES
from aura.embeddings.cluster import EncoderRecipe
from aura.embeddings.fused import fuse_groups
from aura.embeddings.joint.config import JointConfig
from aura.embeddings.joint.data import joint_data
from aura.embeddings.joint.errors import NotTrainableError
from aura.embeddings.joint.evaluation import Evaluation
from aura.embeddings.joint.model import JointModel
from aura.embeddings.joint.plots import plot_recall, plot_speakers, plot_training
from aura.embeddings.joint.published import JointReport, TrainedSpace
from aura.embeddings.joint.registration import log_joint_model
from aura.embeddings.opening import Encoders
from aura.embeddings.plots import scatter
from aura.embeddings.shared import embed_shared
from aura.embeddings.spaces import PublishedSpace, SpaceReference
from aura.embeddings.table import EmbeddingTable
from aura.embeddings.windows import Read
from aura.settings import Settings
from aura.tiers.catalog import Catalog
from aura.tiers.store import TieredStore
from aura_assets.asset import aura_asset
from aura_assets.checks import JOINT_MODEL, JOINT_REPORT, SHARED_EMBEDDINGS
from aura_assets.embeddings import elsewhere, made
from aura_assets.metadata import markdown_table, picture
from aura_assets.step import FORCE_TAG, Made, Skipped
from resources.instruments import Instruments
from resources.progress import Progress, Report

REGISTERED_NAME = "aura-joint"
"""One registered model per source: this, a dash and the source's name."""


TRAINING = "1"
"""Version of the training's code: another one trains every model anew."""


def joint_config(settings: Settings) -> JointConfig:
    """The configured training."""
    return JointConfig(**settings.joint.model_dump(include={"steps", "width", "layers", "seed"}))


@aura_asset(
    group="joint",
    kinds={"pytorch", "transformers", "mlflow"},
    checks=JOINT_MODEL,
    settings=("joint", "embeddings"),
    reusable=True,
    code_version=TRAINING,
)
def joint_model(
    context: dg.AssetExecutionContext,
    corpus_manifest: CorpusManifest,
    *,
    encoders: dg.ResourceParam[Encoders],
    registry: dg.ResourceParam[SourceRegistry],
    settings: dg.ResourceParam[Settings],
    store: dg.ResourceParam[TieredStore],
    instruments: dg.ResourceParam[Instruments],
    progress: dg.ResourceParam[Progress],
) -> Made | Skipped:
    """The space that texts, images and sounds of a source share.

    A small model of three towers, trained by contrast on what belongs together in the source: items of one group (files
    of one stem, a row of a table, a video), else items of one label. Held-out items tell how well each modality finds
    each other one. Registered in MLflow. It is trained again when the settings change or when more than
    `joint.retrain_share` of the items have, since another model means that every item is encoded anew.

    Where `embeddings.shared_model` names a CLIP, SigLIP or CLAP model, this is a reference to it. Skipped where no two
    modalities have anything in common.
    """
    if encoders.shared is not None:
        return _referred(SpaceReference.to(encoders.shared))
    partition = context.partition_key
    config = joint_config(settings)
    previous = Catalog(store).load_previous(TrainedSpace, "joint_model", partition)
    published = Catalog(store).find("joint_model", partition)
    if previous is None or published is None:
        why: str | None = "first training"
    elif context.run.tags.get(FORCE_TAG) == "true":
        why = "the run asks for it"
    elif published.provenance.get("code_version") != TRAINING:
        why = "the code of the training has changed"
    else:
        why = previous.outdated(corpus_manifest, config, settings.joint.retrain_share)
    if previous is not None and why is None:
        return _trained(previous, "nothing was trained: too little has changed")
    checkpoint = settings.home / "checkpoints" / f"joint_model-{partition}.safetensors"
    try:
        model = _train(
            corpus_manifest,
            open_registered(partition, registry, settings.corpus).read,
            config,
            checkpoint,
            progress(f"joint_model[{partition}]"),
        )
    except NotTrainableError as error:
        return Skipped(str(error))

    def register(run_id: str | None) -> Mapping[str, str]:
        # Only a training that was interrupted goes on where it was.
        checkpoint.unlink(missing_ok=True)
        if run_id is None:
            return {}
        uri = log_joint_model(
            model,
            tracking_uri=instruments.tracking_uri,
            run_id=run_id,
            registered_name=f"{REGISTERED_NAME}-{partition}",
            tags={"dagster.run_id": context.run.run_id, "aura.asset": "joint_model", "aura.partition": partition},
        )
        return {"registered_model": uri}

    return _trained(TrainedSpace.of(model, corpus_manifest), str(why), register)


def _train(manifest: CorpusManifest, read: Read, config: JointConfig, checkpoint: Path, progress: Report) -> JointModel:
    from aura.embeddings.joint.training import CheckpointPlan, train_joint_model  # loads torch

    data = joint_data(manifest.table, read)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    return train_joint_model(data, config=config, checkpoint=CheckpointPlan(checkpoint), progress=progress)


def _trained(
    space: TrainedSpace, why: str, when_published: Callable[[str | None], Mapping[str, Any]] | None = None
) -> Made:
    card = space.model.card
    metadata: dict[str, object] = {
        "why": why,
        "modalities": f"{', '.join(card.modalities)}" + (f"; absent: {', '.join(card.absent)}" if card.absent else ""),
        "belongs_together_by": card.paired_by,
        "held_out": card.evaluation.held_out,
        "items": dg.MetadataValue.json({name: asdict(items) for name, items in card.items.items()}),
        "retrieval": markdown_table(_retrieval(card.evaluation)),
        "recall": picture(plot_recall(card.evaluation), "recall at 1 for each ordered pair of modalities"),
        "training": picture(plot_training(card), "loss of the training"),
    }
    if card.evaluation.naming:
        metadata["naming"] = markdown_table(_naming(card.evaluation))
    if card.left_out:
        metadata["left_out"] = dg.MetadataValue.json(dict(card.left_out))
    figures = {
        "parameters": card.parameters,
        "concepts": card.concepts,
        "training_cpu_seconds": space.model.cost.cpu_s,
        **{f"recall_{e.query}_to_{e.gallery}": e.recall_at_1.value for e in card.evaluation.retrieval},
        **{f"mean_rank_{e.query}_to_{e.gallery}": e.mean_rank for e in card.evaluation.retrieval},
        **{f"zero_shot_{e.modality}": e.zero_shot.value for e in card.evaluation.naming if e.zero_shot is not None},
    }
    return Made(space, rows=len(card.modalities), figures=figures, metadata=metadata, when_published=when_published)


def _referred(space: SpaceReference) -> Made:
    metadata = {"why": "a shared model is configured", "modalities": ", ".join(space.modalities), "model": space.name}
    return Made(space, rows=len(space.modalities), metadata=metadata)


def _retrieval(evaluation: Evaluation) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "query": entry.query,
                "finds": entry.gallery,
                "recall@1": entry.recall_at_1.value,
                "by chance": entry.chance_recall_at_1,
                "mean rank": entry.mean_rank,
                "rank by chance": entry.chance_mean_rank,
                "trained": entry.trained,
            }
            for entry in evaluation.retrieval
        ]
    )


def _naming(evaluation: Evaluation) -> pa.Table:
    rows = []
    for entry in evaluation.naming:
        zero_shot = None if entry.zero_shot is None else entry.zero_shot.value
        ways = [("zero-shot by the joint model", zero_shot), ("chance", entry.chance)]
        ways += [(name, share.value) for name, share in entry.supervised]
        rows += [{"names": entry.modality, "by": name, "right": value} for name, value in ways]
    return pa.Table.from_pylist(rows)


@aura_asset(group="joint", kinds={"pytorch", "transformers"}, checks=JOINT_REPORT, settings=("joint",), reusable=True)
def joint_report(
    context: dg.AssetExecutionContext,
    corpus_manifest: CorpusManifest,
    joint_model: PublishedSpace,
    *,
    registry: dg.ResourceParam[SourceRegistry],
    settings: dg.ResourceParam[Settings],
    store: dg.ResourceParam[TieredStore],
    progress: dg.ResourceParam[Progress],
) -> Made | Skipped:
    """How well the joint model does where it is hard.

    People whom it never heard: each speaker is left out of a training in turn. Degraded modalities: images that are
    covered and sounds in noise, by what each finds alone and what both find fused. Skipped without sounds of known
    speakers, and for a model that was not trained here.
    """
    if not isinstance(joint_model, TrainedSpace):
        return Skipped("the shared model is configured and was not trained here")
    from aura.embeddings.joint.fusion_gain import fusion_gain  # loads torch
    from aura.embeddings.joint.speakers import MIN_SPEAKERS, leave_one_speaker_out, speakers_of

    partition, model = context.partition_key, joint_model.model
    if "audio" not in model.modalities:
        return Skipped("the joint model was trained without sounds")
    if joint_model.outdated(corpus_manifest, model.card.config, 0.0):
        # What the model was trained from is not there any more as it was: its report is the one from then.
        previous = Catalog(store).load_previous(JointReport, "joint_report", partition)
        if previous is not None and previous.model == model.fingerprint:
            return _reported(previous)
        return Skipped("items have come or gone since the joint model was trained; the next training is reported")
    data = joint_data(corpus_manifest.table, open_registered(partition, registry, settings.corpus).read)
    checkpoints = settings.home / "checkpoints" / f"joint_report-{partition}"
    speakers = fusion = None
    if len(speakers_of(data)) >= MIN_SPEAKERS:
        speakers = leave_one_speaker_out(
            data, model.card.config, checkpoints=checkpoints, progress=progress(f"speakers[{partition}]")
        )
    if len(model.modalities) == len(MODALITIES):
        # Where no image and sound that were held out are about the same thing, there is nothing to fuse.
        with suppress(NotTrainableError):
            fusion = fusion_gain(model, data, progress=progress(f"fusion[{partition}]"))
    if speakers is None and fusion is None:
        return Skipped("there are neither three speakers that are known by name nor all three modalities")

    def finish(_: str | None) -> Mapping[str, str]:
        # Only trainings that were interrupted go on where they were.
        rmtree(checkpoints, ignore_errors=True)
        return {}

    return replace(_reported(JointReport(model.fingerprint, speakers, fusion)), when_published=finish)


def _reported(report: JointReport) -> Made:
    figures: dict[str, float] = {}
    metadata: dict[str, object] = {}
    if report.speakers is not None:
        for query, gallery in (("audio", "text"), ("audio", "image")):
            with suppress(KeyError):
                figures[f"unheard_{query}_to_{gallery}"] = report.speakers.mean_recall(query, gallery)
        metadata["unheard_speakers"] = picture(plot_speakers(report.speakers), "sounds of speakers never heard")
    if report.fusion is not None:
        gains = [
            {
                "condition": str(gain.condition),
                "image": gain.image.value,
                "sound": gain.audio.value,
                "fused": gain.fused.value,
                "gain": gain.gain,
                "from": gain.low,
                "to": gain.high,
            }
            for gain in report.fusion.gains
        ]
        metadata["fusion"] = markdown_table(pa.Table.from_pylist(gains))
        metadata["fusion_rule"] = report.fusion.rule
        one = [gain.gain for gain in report.fusion.gains if gain.condition.degrades_one]
        figures |= {"fusion_gain_mean_one_degraded": fmean(one), "fusion_gain_worst_one_degraded": min(one)}
    rows = 0 if report.speakers is None else len(report.speakers.speakers)
    return Made(report, rows=rows, figures=figures, metadata=metadata)


@aura_asset(
    group="joint", kinds={"pytorch", "arrow"}, checks=SHARED_EMBEDDINGS, settings=("embeddings",), wants_gpu=True
)
def joint_embeddings(
    context: dg.AssetExecutionContext,
    corpus_manifest: CorpusManifest,
    joint_model: PublishedSpace,
    *,
    encoders: dg.ResourceParam[Encoders],
    registry: dg.ResourceParam[SourceRegistry],
    settings: dg.ResourceParam[Settings],
    store: dg.ResourceParam[TieredStore],
    progress: dg.ResourceParam[Progress],
) -> Made | Skipped:
    """Unit vectors of the texts, images and sounds in the space that they share.

    Only new or changed items are encoded; another joint model encodes everything anew.
    """
    partition = context.partition_key
    read = open_registered(partition, registry, settings.corpus).read
    found = embed_shared(
        corpus_manifest,
        joint_model.open(encoders),
        read=read,
        previous=Catalog(store).load_previous(EmbeddingTable, "joint_embeddings", partition),
        progress=lambda modality: progress(f"joint_embeddings[{partition}] {modality}"),
        elsewhere=lambda modality, read: elsewhere(EncoderRecipe(encoders.settings, modality, joint_model), read),
    )
    if found is None:
        return Skipped("no items of a modality that the joint model takes")
    return made(*found)


@aura_asset(group="joint", kinds={"arrow"}, checks=SHARED_EMBEDDINGS, reusable=True)
def fused_embeddings(
    context: dg.AssetExecutionContext,  # noqa: ARG001 - every asset function has it
    corpus_manifest: CorpusManifest,
    joint_embeddings: EmbeddingTable,
) -> Made | Skipped:
    """One unit vector for each thing that has several items: files of one stem, a row of a table, a video.

    The direction of the mean of its modalities' vectors; a modality that is missing is left out.
    """
    found = fuse_groups(corpus_manifest, joint_embeddings)
    if found is None:
        return Skipped("no items belong together: no files share a stem, no table names files, there are no videos")
    table, counts = found
    return Made(
        table,
        rows=table.table.num_rows,
        figures=asdict(counts),
        metadata={"principal_components": picture(scatter(table), "things on their first two principal components")},
    )
