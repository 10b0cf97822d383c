"""The routing table of a transformers mixture on a source's texts: what `experts.routed_model` makes of the asset."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import dagster as dg

from aura.corpus.manifest import CorpusManifest
from aura.embeddings.table import EmbeddingTable
from aura.experts.routing.table import RoutingTable
from aura.experts.routing.tabulate import Items, embedding_clusters, route_texts
from aura.settings import Settings
from aura.tiers.catalog import Catalog
from aura.tiers.store import TieredStore
from aura_assets.asset import aura_asset
from aura_assets.checks import ROUTING_TABLE
from aura_assets.experts import routing_made
from aura_assets.step import FORCE_TAG, Made, Skipped
from resources.progress import Progress

if TYPE_CHECKING:
    from aura.experts.routing.capture import RoutedModel

CODE_VERSION = "transformers-2"

SETTINGS = tuple(
    f"experts.{name}"
    for name in ("routed_model", "earlier_checkpoint", "routed_texts", "routed_tokens", "clusters", "seed")
)


@aura_asset(
    group="experts",
    kinds={"pytorch", "arrow"},
    checks=ROUTING_TABLE,
    settings=SETTINGS,
    wants_gpu=True,
    code_version=CODE_VERSION,
)
def expert_routing_table(
    context: dg.AssetExecutionContext,
    text_embeddings: EmbeddingTable,
    *,
    settings: dg.ResourceParam[Settings],
    store: dg.ResourceParam[TieredStore],
    progress: dg.ResourceParam[Progress],
) -> Made | Skipped:
    """Which experts of `experts.routed_model` the tokens of each text are sent to, layer by layer.

    Load, drops and evenness per layer and expert, which experts are chosen together and one after the other, and what
    they tell of the label and of the cluster of the embedding, beside what shuffling gives. With
    `experts.earlier_checkpoint` also how much of the routing was settled then.
    """
    chosen, partition = settings.experts, context.partition_key
    texts = _texts(store, partition)
    ids, labels = (text_embeddings.table[name].to_pylist() for name in ("item_id", "label"))
    clusters = embedding_clusters(text_embeddings.vectors, chosen.clusters, seed=chosen.seed)
    # Item ids are digests, so that the texts of lowest id are a sample of all.
    rows = sorted((row for row, item in enumerate(ids) if item in texts), key=lambda row: ids[row])
    rows = rows[: chosen.routed_texts]
    if chosen.routed_model is None or not rows:
        return Skipped("no model is configured, or none of the embedded texts is in the manifest any more")
    items = Items([ids[row] for row in rows], [labels[row] for row in rows], clusters[rows])
    made_of = _digest(items, settings)
    previous = Catalog(store).load_previous(RoutingTable, "expert_routing_table", partition)
    forced = context.run.tags.get(FORCE_TAG) == "true"
    if previous is not None and previous.figures.made_of == made_of and not forced:
        return routing_made(previous, why="neither the texts, nor the model, nor a setting has changed")
    return routing_made(
        route_texts(
            _open(chosen.routed_model, settings),
            [texts[item] for item in items.ids],
            items,
            tokens=chosen.routed_tokens,
            seed=chosen.seed,
            earlier=None if chosen.earlier_checkpoint is None else _open(chosen.earlier_checkpoint, settings),
            made_of=made_of,
            progress=progress(f"expert_routing_table[{partition}]"),
        ),
        why=f"routed {len(rows)} texts",
    )


def _digest(items: Items, settings: Settings) -> str:
    """What the table follows from: the code, the settings, the contents of the models, and the items.

    The models' contents, since a directory can hold another model than yesterday.
    """
    from aura.experts.routing.capture import model_fingerprint  # loads torch

    names = (settings.experts.routed_model, settings.experts.earlier_checkpoint)
    timeout = settings.embeddings.hub_timeout_seconds
    models = [name and model_fingerprint(name, hub_timeout_s=timeout) for name in names]
    known = [CODE_VERSION, settings.digest(SETTINGS), models, *map(list, (items.ids, items.labels))]
    digest = hashlib.blake2b(json.dumps(known).encode(), digest_size=16)
    digest.update(items.clusters.tobytes())
    return digest.hexdigest()


def _open(name: str, settings: Settings) -> RoutedModel:
    from aura.experts.routing.capture import open_routed_model  # loads torch

    embeddings = settings.embeddings
    return open_routed_model(name, device=embeddings.device, hub_timeout_s=embeddings.hub_timeout_seconds)


def _texts(store: TieredStore, partition: str) -> dict[str, str]:
    """The source's texts by item id, which is the digest of the text."""
    items = Catalog(store).load_as(CorpusManifest, "corpus_manifest", partition).items("text")
    return dict(zip(items["item_id"].to_pylist(), items["text"].to_pylist(), strict=True))
