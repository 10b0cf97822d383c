"""Small language models: does a mixture of experts pay?

Nothing here starts by itself: a training takes minutes. The job `language` makes one seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import dagster as dg
import pyarrow as pa

from aura.experts.language.card import LanguageCard
from aura.experts.language.comparison import ComparisonError, MoeVersusDense
from aura.experts.language.models import LanguageModels
from aura.experts.language.plots import plot_curves, plot_differences
from aura.experts.language.presets import PRESETS, LanguageConfig
from aura.experts.language.registration import log_language_models
from aura.experts.language.text import INSTALLED, read_text
from aura.experts.language.tokens import LanguageText, tokenize
from aura.graph.lineage import model_experts
from aura.settings import Settings
from aura_assets.asset import aura_asset
from aura_assets.checks import LANGUAGE_MODELS, LANGUAGE_TEXT, MOE_VERSUS_DENSE
from aura_assets.metadata import markdown_table, picture
from aura_assets.partitions import seeds
from aura_assets.step import Made, Skipped
from resources.instruments import Instruments
from resources.progress import Progress

REGISTERED_NAME = "aura-language-seed"
"""One registered model per seed: this, a dash and the seed."""


def language_config(settings: Settings) -> LanguageConfig:
    """The configured training, of seed 0."""
    section = settings.language
    sizes = section.model_dump(include={"steps", "width", "layers", "hidden", "experts", "experts_per_token"})
    return PRESETS[section.preset].with_sizes(**sizes, threads=section.threads)


@aura_asset(
    group="language",
    kinds={"python", "arrow"},
    checks=LANGUAGE_TEXT,
    partitioned=False,
    settings=("language",),
    automatic=False,
)
def language_text(
    context: dg.AssetExecutionContext,  # noqa: ARG001 - every asset function has it
    settings: dg.ResourceParam[Settings],
) -> Made:
    """Text by domains, a byte-pair tokenizer trained on it, and its tokens.

    What is installed on this machine, or a directory whose sub-directories are the domains. Whole files are held out,
    by a hash of their content, and none of them is also learned from.
    """
    config = language_config(settings)
    text = tokenize(read_text(settings.language.text, domain_bytes=config.domain_bytes), config.vocabulary)
    card = text.card
    return Made(
        text,
        rows=card.training_tokens,
        figures={
            "training_tokens": card.training_tokens,
            "held_out_tokens": card.held_out_tokens,
            "vocabulary": card.vocabulary,
            "bytes_per_token": sum(domain.training_bytes for domain in card.domains) / card.training_tokens,
        },
        metadata={
            "source": "what is installed here" if card.source == INSTALLED else card.source,
            "domains": markdown_table(pa.Table.from_pylist([asdict(domain) for domain in card.domains])),
            "left_out": dg.MetadataValue.json(dict(card.left_out)),
            "digest": card.digest,
        },
    )


@aura_asset(
    group="language",
    kinds={"pytorch", "transformers", "mlflow"},
    checks=LANGUAGE_MODELS,
    partitions=seeds,
    settings=("language",),
    automatic=False,
    reusable=True,
)
def language_models(
    context: dg.AssetExecutionContext,
    language_text: LanguageText,
    *,
    instruments: dg.ResourceParam[Instruments],
    settings: dg.ResourceParam[Settings],
    progress: dg.ResourceParam[Progress],
) -> Made:
    """A language model with experts and its dense twin of equal active parameters, trained on the same batches.

    Both by steps in turns, then a twin that has as much time as the model with experts took. Partitioned by seed. A
    training that was interrupted goes on where it was. Registered in MLflow.
    """
    from aura.experts.language.training import CheckpointPlan, train_language_models  # loads torch

    seed = context.partition_key
    checkpoint = settings.home / "checkpoints" / f"language_models-{seed}.safetensors"
    models = train_language_models(
        language_text,
        language_config(settings).with_seed(int(seed)),
        checkpoint=CheckpointPlan(checkpoint),
        progress=progress(f"language_models[{seed}]"),
    )

    def register(run_id: str | None) -> Mapping[str, str]:
        # Only a training that was interrupted goes on where it was.
        checkpoint.unlink(missing_ok=True)
        if run_id is None:
            return {}
        uri = log_language_models(
            models,
            tracking_uri=instruments.tracking_uri,
            run_id=run_id,
            registered_name=f"{REGISTERED_NAME}-{seed}",
            tags={
                "dagster.run_id": context.run.run_id,
                "aura.asset": "language_models",
                "aura.partition": seed,
                "aura.text": models.card.text.digest,
                "aura.proves_nothing": models.card.proves_nothing or "",
            },
        )
        return {"registered_model": uri}

    card = models.card
    return Made(
        models,
        rows=card.config.experts * card.config.layers,
        figures=_figures(card),
        metadata={
            "proves_nothing": card.proves_nothing or "long enough to prove something",
            "curves": picture(plot_curves([card]), "held-out bits per byte of both networks and of the longer twin"),
            "cost": dg.MetadataValue.json(asdict(card.cost)),
            "settings_of_the_training": dg.MetadataValue.json(asdict(card.config)),
        },
        when_published=register,
        lineage=lambda version: model_experts(version, card.config.experts),
    )


@aura_asset(group="language", kinds={"python", "scipy"}, checks=MOE_VERSUS_DENSE, partitioned=False, automatic=False)
def moe_versus_dense(
    context: dg.AssetExecutionContext,  # noqa: ARG001 - every asset function has it
    language_models: Mapping[str, LanguageModels],
) -> Made | Skipped:
    """Whether experts pay: held-out bits per byte at equal steps, at equal time, and the time to equal quality.

    Over all seeds, with 95 % intervals. Skipped until all seeds have been trained, with the same settings and text.
    """
    missing = [seed for seed in seeds.get_partition_keys() if seed not in language_models]
    if missing:
        return Skipped(f"language_models of the seeds {', '.join(missing)} are not there yet")
    try:
        comparison = MoeVersusDense.of([models.card for models in language_models.values()])
    except ComparisonError as error:
        return Skipped(str(error))
    speed = comparison.speed_to_quality
    figures = {
        "equal_steps": comparison.equal_steps.mean,
        "equal_time": comparison.equal_time.mean,
        "step_cost": comparison.step_cost.mean,
        "dead_experts": comparison.dead_experts,
    }
    if speed is not None:
        figures["speed_to_quality"] = speed.mean
    return Made(
        comparison,
        rows=len(comparison.cards),
        figures=figures,
        metadata={
            "found": comparison.sentence(),
            "proves_nothing": comparison.proves_nothing or "long enough to prove something",
            "seeds": markdown_table(comparison.table()),
            "curves": picture(plot_curves(comparison.cards), "held-out bits per byte against steps and time"),
            "differences": picture(plot_differences(comparison), "differences to the dense twin with their intervals"),
        },
    )


def _figures(card: LanguageCard) -> dict[str, float]:
    """What MLflow keeps of a training."""
    speed = card.speed_to_quality
    return {
        "moe_bits_per_byte": card.moe.held_out.mean,
        "dense_bits_per_byte": card.dense.held_out.mean,
        "dense_longer_bits_per_byte": card.dense_longer.held_out.mean,
        "step_cost_ratio": card.step_cost_ratio,
        **({} if speed is None else {"speed_to_quality": speed}),
        "moe_seconds": card.moe.seconds,
        "dense_seconds": card.dense.seconds,
        "dead_experts": card.dead_experts,
        "largest_max_over_mean": max(layer.max_over_mean for layer in card.balance),
        "moe_parameters": card.cost.moe.parameters,
        "active_parameters": card.cost.moe.active_parameters,
        "dense_parameters": card.cost.dense.parameters,
        "tokens": card.config.tokens,
    }
