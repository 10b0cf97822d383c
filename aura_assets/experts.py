"""Experts: who is sent where, and whether it pays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import dagster as dg
import pyarrow.compute as pc

from aura.embeddings.table import EmbeddingTable
from aura.experts.config import ExpertConfig
from aura.experts.dataset import NotTrainableError
from aura.experts.model import ExpertModel
from aura.experts.plots import (
    plot_coactivation,
    plot_expert_load,
    plot_label_experts,
    plot_training,
    plot_transitions,
)
from aura.experts.registration import log_expert_model
from aura.experts.routing.table import RoutingTable
from aura.experts.routing.vectors import route
from aura.graph.lineage import model_experts
from aura.settings import Settings
from aura.settings_sections import TRAINING
from aura_assets.asset import aura_asset
from aura_assets.checks import EXPERT_MODEL, ROUTING_TABLE
from aura_assets.metadata import markdown_table, picture
from aura_assets.step import Made, Skipped
from resources.instruments import Instruments
from resources.progress import Progress

REGISTERED_NAME = "aura-experts"
"""One registered model per source: this, a dash and the source's name."""

SHOWN_EXPERTS = 64
"""Rows of the table of experts in the UI; the routing table itself has all of them."""

SHOWN_FIGURES = [
    "layer",
    "name",
    "experts",
    "top_k",
    "normalised_entropy",
    "max_over_mean",
    "coefficient_of_variation",
    "jain",
    "dead_experts",
    "drop_rate",
    "label_bits",
    "label_shuffled_max_bits",
    "cluster_bits",
    "cluster_shuffled_max_bits",
    "vocabulary_share",
    "vocabulary_specialisation",
    "vocabulary_shuffled_mean",
    "saturation",
]
"""Columns of the table of layers in the UI, likewise."""


@aura_asset(
    group="experts",
    kinds={"pytorch", "mlflow"},
    checks=EXPERT_MODEL,
    settings=tuple(f"experts.{name}" for name in TRAINING),
    reusable=True,
    code_version="2",
)
def expert_model(
    context: dg.AssetExecutionContext,
    text_embeddings: EmbeddingTable,
    instruments: dg.ResourceParam[Instruments],
    settings: dg.ResourceParam[Settings],
    progress: dg.ResourceParam[Progress],
) -> Made | Skipped:
    """A Switch layer with experts, trained on the embeddings to tell the items' labels, and its dense twin.

    Top-1 routing, load-balancing loss, router z-loss, capacity factor 1.25. The twin has equal active compute and sees
    the same batches; both accuracies are of the same held-out split. Registered in MLflow. Skipped where the items have
    too few labels to tell apart.
    """
    from aura.experts.training import CheckpointPlan, train_expert_model  # loads torch

    partition = context.partition_key
    checkpoint = settings.home / "checkpoints" / f"expert_model-{partition}.safetensors"
    try:
        model = train_expert_model(
            text_embeddings.vectors,
            text_embeddings.table["label"].to_pylist(),
            item_ids=text_embeddings.table["item_id"].to_pylist(),
            config=ExpertConfig(**settings.experts.training),
            checkpoint=CheckpointPlan(checkpoint),
            progress=progress(f"expert_model[{partition}]"),
        )
    except NotTrainableError as error:
        return Skipped(str(error))

    def register(run_id: str | None) -> Mapping[str, str]:
        # Only a training that was interrupted goes on where it was; the next one computes anew, with the code of its
        # time.
        checkpoint.unlink(missing_ok=True)
        if run_id is None:
            return {}
        uri = log_expert_model(
            model,
            tracking_uri=instruments.tracking_uri,
            run_id=run_id,
            registered_name=f"{REGISTERED_NAME}-{partition}",
            tags={"dagster.run_id": context.run.run_id, "aura.asset": "expert_model", "aura.partition": partition},
        )
        return {"registered_model": uri}

    card = model.card
    return Made(
        model,
        rows=card.config.experts,
        figures={
            "switch_accuracy": card.scores.switch.value,
            "switch_accuracy_at_capacity": card.scores.switch_at_capacity.value,
            "dense_accuracy": card.scores.dense.value,
            "majority_accuracy": card.scores.majority.value,
            "labels": len(card.labels),
            "training_items": card.split.training,
            "held_out_items": card.split.held_out,
            "switch_parameters": card.switch_cost.parameters,
            "dense_parameters": card.dense_cost.parameters,
            "switch_active_flops": card.switch_cost.active_flops,
            "dense_active_flops": card.dense_cost.active_flops,
        },
        metadata={
            "scores": dg.MetadataValue.json(asdict(card.scores)),
            "split": dg.MetadataValue.json(asdict(card.split)),
            "training": picture(plot_training(model), "training of the Switch model and its dense twin"),
        },
        when_published=register,
        lineage=lambda version: model_experts(version, card.config.experts),
    )


@aura_asset(
    group="experts",
    kinds={"pytorch", "arrow"},
    checks=ROUTING_TABLE,
    settings=("experts.clusters",),
    reusable=True,
    code_version="3",
)
def expert_routing_table(
    context: dg.AssetExecutionContext,  # noqa: ARG001 - every asset function has it
    text_embeddings: EmbeddingTable,
    expert_model: ExpertModel,
    settings: dg.ResourceParam[Settings],
) -> Made:
    """Which expert each item is sent to: load, drops, evenness, and each label's share.

    What the expert tells of the label, and of the cluster of the embedding, is given beside what shuffling gives. With
    `experts.routed_model` set, the texts are routed by that model in place of the Switch classifier.
    """
    return routing_made(
        route(
            expert_model,
            text_embeddings.vectors,
            text_embeddings.table["label"].to_pylist(),
            item_ids=text_embeddings.table["item_id"].to_pylist(),
            clusters=settings.experts.clusters,
        )
    )


def routing_made(table: RoutingTable, *, why: str = "every item was routed") -> Made:
    """A routing table with its figures: of the worst layer, and what is told of groups of the one that tells most."""
    figures = {
        "items": table.figures.items,
        "tokens": table.figures.tokens,
        "truncated": table.figures.truncated,
        "layers": table.layers.num_rows,
        "dead_experts": table.column("dead_experts").sum(),
        "normalised_entropy": table.column("normalised_entropy").min(),
        "max_over_mean": table.column("max_over_mean").max(),
        "coefficient_of_variation": table.column("coefficient_of_variation").max(),
        "jain": table.column("jain").min(),
        "drop_rate": table.column("drop_rate").max(),
        **{
            f"{group}_{of}": table.column(f"{group}_{of}").max()
            for group in ("label", "cluster")
            for of in ("bits", "shuffled_mean_bits", "shuffled_max_bits")
        },
    }
    for name in ("vocabulary_specialisation", "vocabulary_shuffled_mean", "saturation"):
        known = table.layers[name].drop_null()
        if len(known):
            figures[name] = pc.mean(known).as_py()
    if "vocabulary_specialisation" in figures:
        figures["vocabulary_share"] = table.column("vocabulary_share").min()
    pictures = {
        "load": picture(plot_expert_load(table), "load of the experts"),
        "specialisation": picture(plot_label_experts(table), "share of each label per expert"),
    }
    if table.coactivation.num_rows:
        pictures["coactivation"] = picture(plot_coactivation(table), "experts that are chosen together")
    if table.transitions.num_rows:
        pictures["transitions"] = picture(plot_transitions(table), "from a layer's experts to those of the next")
    return Made(
        table,
        rows=table.experts.num_rows,
        figures=figures,
        metadata={
            "why": why,
            "model": table.figures.model,
            "experts": markdown_table(table.experts.slice(0, SHOWN_EXPERTS)),
            "layers": markdown_table(table.layers.select(SHOWN_FIGURES)),
            **pictures,
        },
    )
