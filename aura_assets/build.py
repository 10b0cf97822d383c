"""The one function that assembles the definitions; tests, the demo and the code locations all use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import dagster as dg

from aura.settings import LOOPBACK, Settings
from aura_assets import (
    corpus,
    drift,
    embeddings,
    events,
    experts,
    jobs,
    joint,
    language,
    notebooks,
    requests,
    routing,
    search,
    tiers,
    topology,
)
from aura_assets.asset import SETTINGS
from aura_assets.io_managers import catalog_io_manager
from aura_assets.op_tags import GPU_TAGS
from aura_assets.partitions import requests as answered
from aura_assets.partitions import sources
from resources.encoders import EncodersResource
from resources.events import Events
from resources.instruments import InstrumentsResource
from resources.lineage import Lineage
from resources.progress import LogProgress
from resources.sources import SourcesResource
from resources.store import StoreResource
from sensors.corpus_items import corpus_items
from sensors.dead_runs import dead_runs
from sensors.expert_requests import expert_requests
from sensors.memory_operations import memory_operations
from sensors.run_failures import run_failures
from sensors.sources import source_partitions
from sensors.waiting_writes import waiting_writes

MEASURED = (
    corpus.corpus_manifest,
    embeddings.text_embeddings,
    embeddings.image_embeddings,
    embeddings.audio_embeddings,
    joint.joint_model,
    joint.joint_report,
    joint.joint_embeddings,
    joint.fused_embeddings,
    search.text_index,
    search.image_index,
    search.audio_index,
    search.joint_index,
    search.fused_index,
    topology.embedding_diagrams,
    topology.image_embedding_diagrams,
    topology.diagram_vectors,
    topology.embedding_loops,
    topology.averaged_landscapes,
    experts.expert_model,
    experts.expert_routing_table,
    requests.request_activations,
    drift.drift_reference,
    drift.embedding_drift,
    drift.network_reference,
    drift.network_drift,
    language.language_text,
    language.language_models,
    language.moe_versus_dense,
    tiers.tier_profile,
    tiers.tier_placement,
)
"""The assets that are no notebooks."""

ASSETS = (*MEASURED, *notebooks.notebook_assets(MEASURED))

PAGES = {
    "corpus": "corpus",
    "embeddings": "corpus",
    "joint": "corpus",
    "search": "corpus",
    "topology": "topology",
    "drift": "topology",
    "experts": "experts",
    "language": "experts",
    "requests": "experts",
    "tiers": "tiers",
}
"""Where the dashboard shows the values of a group; the notebooks stand on its first page, which lists all assets."""

Location = Literal["everything", "cpu", "gpu"]


def build_defs(
    settings: Settings, *, location: Location = "everything", resources: Mapping[str, object] | None = None
) -> dg.Definitions:
    """Assemble the graph, or the part of it that belongs to a code location.

    Args:
        settings: The settings of this deployment.
        location: `everything` for one machine; `cpu` and `gpu` cut the graph in two, each asset in exactly one.
        resources: Resources that replace the usual ones, by name.
    """
    assets = _of(settings)
    chosen = [asset for asset in assets if location == "everything" or _wants_gpu(asset) == (location == "gpu")]
    here = [asset.map_asset_specs(lambda spec: _with_settings(spec, settings)) for asset in chosen]
    return dg.Definitions(
        assets=[*here, *_read_from_elsewhere(here, assets), *([] if location == "gpu" else [events.corpus_items])],
        jobs=[] if location == "gpu" else jobs.JOBS,
        schedules=[] if location == "gpu" else [jobs.hourly_listing],
        sensors=[
            dg.AutomationConditionSensorDefinition(
                f"automation_{location}",
                target=dg.AssetSelection.assets(*here),
                default_status=dg.DefaultSensorStatus.RUNNING,
                minimum_interval_seconds=30,
            ),
            *([] if location == "gpu" else _watchers()),
        ],
        # A step that spawns a process costs seconds, most of it importing torch; a step in this process, milliseconds.
        # In the GPU location that is the price for device memory that surely goes back after each step.
        executor=dg.multiprocess_executor.configured({"max_concurrent": 1})
        if location == "gpu"
        else dg.in_process_executor,
        resources={
            "settings": settings,
            "store": StoreResource.of(settings),
            "io_manager": catalog_io_manager,
            "registry": SourcesResource.of(settings),
            "encoders": EncodersResource.of(settings),
            "events": Events(settings),
            "lineage": Lineage(settings),
            "instruments": InstrumentsResource.of(settings),
            "progress": LogProgress(),
            **(resources or {}),
        },
    )


def _with_settings(spec: dg.AssetSpec, settings: Settings) -> dg.AssetSpec:
    """The settings that a value depends on are part of its code version: when they change, it is recomputed.

    Where the dashboard shows it depends on the settings too.
    """
    digest = settings.digest(spec.metadata[SETTINGS])
    page = f"http://{LOOPBACK}:{settings.services.dashboard_port}/{PAGES.get(spec.group_name or '', '')}"
    return spec.replace_attributes(
        code_version=f"{spec.code_version}-{digest}",
        metadata={**spec.metadata, "dashboard": dg.MetadataValue.url(page)},
    )


def _watchers() -> list[dg.SensorDefinition]:
    return [
        source_partitions(jobs.listing, sources),
        corpus_items(jobs.corpus, events.corpus_items.key, sources, events.requested_events),
        memory_operations(jobs.placement, dg.AssetKey("tier_placement"), dg.AssetKey("tier_profile")),
        expert_requests(jobs.requests, answered, requests.requested_event),
        run_failures,
        waiting_writes,
        dead_runs,
    ]


def _of(settings: Settings) -> Sequence[dg.AssetsDefinition]:
    """The assets, those among them that the settings make in another way."""
    if settings.experts.routed_model is None:
        return ASSETS
    return [routing.expert_routing_table if asset is experts.expert_routing_table else asset for asset in ASSETS]


def _read_from_elsewhere(
    here: Sequence[dg.AssetsDefinition], assets: Sequence[dg.AssetsDefinition]
) -> list[dg.AssetSpec]:
    """What these assets read and another location makes, as external assets that the IO manager can load."""
    made = {key for asset in here for key in asset.keys}
    read = {key for asset in here for key in asset.dependency_keys} - made
    return [
        dg.AssetSpec(key, partitions_def=maker.partitions_def).with_io_manager_key("io_manager")
        for maker in assets
        for key in maker.keys & read
    ]


def _wants_gpu(asset: dg.AssetsDefinition) -> bool:
    return GPU_TAGS.items() <= asset.op.tags.items()
