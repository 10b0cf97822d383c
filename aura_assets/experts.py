"""Experts: who is sent where, and whether it pays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import dagster as dg

from aura.embeddings.table import EmbeddingTable
from aura.experts.config import ExpertConfig
from aura.experts.dataset import NotTrainableError
from aura.experts.model import ExpertModel
from aura.experts.plots import plot_expert_load, plot_label_experts, plot_training
from aura.experts.registration import log_expert_model
from aura.experts.routing_table import RoutingTable, route
from aura.graph.lineage import model_experts
from aura.settings import Settings
from aura_assets.asset import aura_asset
from aura_assets.checks import EXPERT_MODEL, ROUTING_TABLE
from aura_assets.metadata import markdown_table, picture
from aura_assets.step import Made, Skipped
from resources.instruments import Instruments
from resources.progress import Progress

REGISTERED_NAME = "aura-experts"
"""One registered model per source: this, a dash and the source's name."""


@aura_asset(
    group="experts",
    kinds={"pytorch", "mlflow"},
    checks=EXPERT_MODEL,
    settings=("experts",),
    reusable=True,
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
            config=ExpertConfig(**settings.experts.model_dump()),
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


@aura_asset(group="experts", kinds={"pytorch", "arrow"}, checks=ROUTING_TABLE, settings=("experts",), reusable=True)
def expert_routing_table(
    context: dg.AssetExecutionContext,  # noqa: ARG001 - every asset function has it
    text_embeddings: EmbeddingTable,
    expert_model: ExpertModel,
) -> Made:
    """Which expert each item is sent to: load, drops, entropy, and each label's share.

    Mutual information of label and expert is given beside what shuffled labels give.
    """
    table: RoutingTable = route(
        expert_model,
        text_embeddings.vectors,
        text_embeddings.table["label"].to_pylist(),
        item_ids=text_embeddings.table["item_id"].to_pylist(),
    )
    figures = table.figures
    return Made(
        table,
        rows=figures.experts,
        figures={
            "items": figures.items,
            "normalised_entropy": figures.normalised_entropy,
            "max_over_mean": figures.max_over_mean,
            "dead_experts": figures.dead_experts,
            "dropped_share": figures.dropped_share,
            "mutual_information_bits": figures.mutual_information_bits,
            "shuffled_labels_bits": figures.shuffled_mean_bits,
        },
        metadata={
            "experts": markdown_table(table.experts),
            "load": picture(plot_expert_load(table), "items per expert"),
            "specialisation": picture(plot_label_experts(table), "share of each label per expert"),
        },
    )
