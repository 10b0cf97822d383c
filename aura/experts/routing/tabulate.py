"""From counts to a routing table, and from texts to counts.

Belongs here: the tables' rows. Does not: the formulas (`figures`), the tables' form (`table`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from aura.experts.routing.batch import RoutedBatch
from aura.experts.routing.errors import RoutedModelError, RoutingError
from aura.experts.routing.figures import (
    SHUFFLES,
    AgainstChance,
    coefficient_of_variation,
    contingency,
    dead_experts,
    jain,
    max_over_mean,
    normalised_entropy,
    shared_information,
    vocabulary_specialisation,
)
from aura.experts.routing.table import SCHEMAS, RoutingFigures, RoutingTable, items_schema
from aura.experts.routing.tally import LayerCounts, LayerForm, RoutingTally

if TYPE_CHECKING:
    from aura.experts.routing.capture import RoutedModel

CLUSTERS = 16
"""Clusters of the embeddings, unless said otherwise."""

CLUSTER_ROUNDS = 25
"""Rounds of k-means at most: those after it move hardly anything, and embeddings can take some hundred."""

LEAST_OCCURRENCES = 10
"""Tokens of an id below which it does not count in the vocabulary specialisation."""


@dataclass(frozen=True, eq=False)
class Items:
    """What is known of the items beside their routing, in the order in which they were routed.

    Attributes:
        ids: Their ids.
        labels: Their labels, None for none.
        clusters: The cluster of each embedding [n], int64; negative for none.
    """

    ids: Sequence[str]
    labels: Sequence[str | None]
    clusters: np.ndarray


@dataclass(frozen=True)
class Origin:
    """Where a routing comes from; see `RoutingFigures`."""

    model: str
    fingerprint: str
    batch_size: int
    token_limit: int | None = None
    capacity_factor: float | None = None
    earlier: str | None = None
    made_of: str = ""


def embedding_clusters(vectors: np.ndarray, clusters: int, *, seed: int) -> np.ndarray:
    """k-means clusters of embeddings, the same each time for the same rows in the same order.

    Args:
        vectors: [n, d] float32.
        clusters: Number of clusters; fewer where there are fewer different embeddings.
        seed: Seed of the centres to begin with.

    Returns:
        [n] int64.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    different = len(np.unique(vectors, axis=0))
    with threadpool_limits(1):
        means = KMeans(min(clusters, different), n_init=1, max_iter=CLUSTER_ROUNDS, random_state=seed)
        found = means.fit_predict(vectors)
    labelled: np.ndarray = found.astype(np.int64)
    return labelled


def route_texts(
    model: RoutedModel,
    texts: Sequence[str],
    items: Items,
    *,
    tokens: int,
    seed: int = 0,
    earlier: RoutedModel | None = None,
    made_of: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> RoutingTable:
    """The routing table of texts.

    Args:
        model: The model that routes them.
        texts: The texts.
        items: What is known of them.
        tokens: Tokens of a text that are read.
        seed: Seed of the shuffles.
        earlier: An earlier checkpoint of the same training, for saturation.
        made_of: Digest to keep with the table, see `RoutingFigures`.
        progress: Called with (done, total) texts.

    Raises:
        RoutingError: No text has a token.
        RoutedModelError: The earlier checkpoint is of another model, has another tokenizer, or would be given the texts
            in other batches.
    """
    from aura.experts.routing.capture import capture, default_batch_tokens, frequent_ids

    if earlier is not None:
        _check_comparable(model, earlier, tokens)
    tally = RoutingTally(layer_forms(model), len(texts))
    if len(model.tokenizer) > tally.most_ids:
        tally.prefer(frequent_ids(model, texts, tokens=tokens))
    batch_tokens = default_batch_tokens(model)
    batches = capture(model, texts, tokens=tokens, batch_tokens=batch_tokens)
    before = None if earlier is None else capture(earlier, texts, tokens=tokens, batch_tokens=batch_tokens)
    tally.add_all(batches if progress is None else _told(batches, len(texts), progress), before)
    origin = Origin(
        model=model.name,
        fingerprint=model.fingerprint,
        batch_size=batch_tokens,
        token_limit=model.limit(tokens),
        earlier=None if earlier is None else earlier.name,
        made_of=made_of,
    )
    return tabulate(tally, items, origin, seed=seed)


def layer_forms(model: RoutedModel) -> list[LayerForm]:
    """The forms of a model's sparse layers."""
    return [LayerForm(each.name, each.stack, each.experts, each.top_k, each.scoring) for each in model.layers]


def _check_comparable(model: RoutedModel, earlier: RoutedModel, tokens: int) -> None:
    limits = model.limit(tokens), earlier.limit(tokens)
    if limits[0] != limits[1]:
        raise RoutedModelError(
            f"the model reads {limits[0]} tokens of a text, the earlier checkpoint {limits[1]} (its positions are "
            f"{earlier.positions}): give tokens = {min(limits)}, which both can read"
        )
    if model.shares_places != earlier.shares_places:
        limited, free = ("model", "earlier checkpoint") if model.shares_places else ("earlier checkpoint", "model")
        raise RoutedModelError(
            f"the {limited} has a capacity_factor and the {free} has none, so that their texts are cut into other "
            "batches: give both the same capacity_factor in config.json"
        )


def _told(batches: Iterator[RoutedBatch], total: int, progress: Callable[[int, int], None]) -> Iterator[RoutedBatch]:
    done = 0
    for batch in batches:
        yield batch
        done += len(np.unique(batch.texts))
        progress(done, total)


def tabulate(tally: RoutingTally, items: Items, origin: Origin, *, seed: int) -> RoutingTable:
    """The routing table of what was counted.

    Raises:
        RoutingError: Nothing was counted.
    """
    if tally.tokens == 0:
        raise RoutingError(f"none of {len(items.ids)} items has a token that {origin.model} could route")
    names = sorted({label for label in items.labels if label is not None})
    number = {label: index for index, label in enumerate(names)}
    labels = np.array([number[label] if label is not None else -1 for label in items.labels], np.int64)
    figures = RoutingFigures(
        model=origin.model,
        fingerprint=origin.fingerprint,
        items=len(items.ids),
        tokens=tally.tokens,
        truncated=tally.truncated,
        token_limit=origin.token_limit,
        capacity_factor=origin.capacity_factor,
        batch_size=origin.batch_size,
        labels=len(names),
        clusters=len(np.unique(items.clusters[items.clusters >= 0])),
        seed=seed,
        shuffles=SHUFFLES,
        earlier=origin.earlier if tally.compared else None,
        made_of=origin.made_of,
    )
    last = [*names, None]
    by_label = _by_group("label", tally, np.where(labels < 0, len(names), labels), lambda rows: [last[r] for r in rows])
    clustered = np.where(items.clusters < 0, 0, items.clusters)
    by_cluster = _by_group("cluster", tally, clustered, lambda rows: rows, counted=items.clusters >= 0)
    return RoutingTable(
        experts=_expert_table(tally),
        layers=_layer_table(tally, labels, items.clusters, seed),
        coactivation=_coactivation_table(tally),
        transitions=_transition_table(tally),
        labels=by_label,
        clusters=by_cluster,
        items=_item_table(tally, items),
        figures=figures,
    )


def _expert_table(tally: RoutingTally) -> pa.Table:
    sizes = [form.experts for form in tally.forms]
    load, kept, gate, weight = (
        np.concatenate([getattr(counts, name) for counts in tally.layers])
        for name in ("load", "kept", "gate", "weight")
    )
    share = np.concatenate([counts.load / counts.load.sum() for counts in tally.layers])
    used, none = np.maximum(load, 1), load == 0
    return pa.table(
        {
            "layer": np.repeat(np.arange(len(sizes), dtype=np.int32), sizes),
            "expert": np.concatenate([np.arange(size, dtype=np.int32) for size in sizes]),
            "tokens": load,
            "share": share,
            "utilisation": share * np.repeat(sizes, sizes),
            "mean_probability": np.concatenate([counts.probability for counts in tally.layers]) / tally.tokens,
            "mean_gate": pa.array(gate / used, mask=none),
            "mean_weight": pa.array(weight / used, mask=none),
            "kept": kept,
            "dropped": load - kept,
            "dropped_share": (load - kept) / used,
        },
        schema=SCHEMAS["experts"],
    )


def _layer_table(tally: RoutingTally, labels: np.ndarray, clusters: np.ndarray, seed: int) -> pa.Table:
    told = [shared_information(groups, tally.items, tally.columns, seed=seed) for groups in (labels, clusters)]
    rows = [
        {
            "layer": layer,
            "name": form.name,
            "stack": form.stack,
            "scoring": form.scoring,
            "experts": form.experts,
            "top_k": form.top_k,
            "tokens": tally.tokens,
            **_load_figures(counts),
            **_beside_chance("label", "_bits", told[0][layer]),
            **_beside_chance("cluster", "_bits", told[1][layer]),
            **_vocabulary_figures(tally, layer, seed),
            "saturation": counts.agreed / (tally.tokens * form.top_k) if tally.compared else None,
        }
        for layer, (form, counts) in enumerate(zip(tally.forms, tally.layers, strict=True))
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMAS["layers"])


def _load_figures(counts: LayerCounts) -> dict[str, float]:
    load = counts.load
    dropped = int((load - counts.kept).sum())
    return {
        "assignments": int(load.sum()),
        "normalised_entropy": normalised_entropy(load),
        "max_over_mean": max_over_mean(load),
        "coefficient_of_variation": coefficient_of_variation(load),
        "jain": jain(load),
        "dead_experts": dead_experts(load),
        "dropped": dropped,
        "drop_rate": dropped / int(load.sum()),
    }


def _beside_chance(name: str, unit: str, figure: AgainstChance) -> dict[str, float]:
    return {
        f"{name}{unit}": figure.value,
        f"{name}_shuffled_mean{unit}": figure.shuffled_mean,
        f"{name}_shuffled_max{unit}": figure.shuffled_max,
    }


def _vocabulary_figures(tally: RoutingTally, layer: int, seed: int) -> dict[str, float]:
    counts = tally.layers[layer].vocabulary
    found = vocabulary_specialisation(counts, *tally.sample(layer), least=LEAST_OCCURRENCES, seed=seed)
    if found is None:
        return {"vocabulary_ids": 0, "vocabulary_share": 0.0}
    return {
        "vocabulary_ids": found.ids,
        "vocabulary_share": found.tokens / tally.tokens,
        "vocabulary_specialisation": found.figure.value,
        "vocabulary_shuffled_mean": found.figure.shuffled_mean,
        "vocabulary_shuffled_max": found.figure.shuffled_max,
    }


def _coactivation_table(tally: RoutingTally) -> pa.Table:
    rows = [(layer, counts.pairs + counts.pairs.T, counts.load) for layer, counts in enumerate(tally.layers)]
    return _pair_table("coactivation", "tokens", rows)


def _transition_table(tally: RoutingTally) -> pa.Table:
    rows = [
        (layer, counts.onwards, counts.onwards.sum(axis=1))
        for layer, counts in enumerate(tally.layers)
        if counts.onwards is not None
    ]
    return _pair_table("transitions", "pairs", rows)


def _pair_table(part: str, unit: str, tables: Sequence[tuple[int, np.ndarray, np.ndarray]]) -> pa.Table:
    """The pairs that occur in square tables of layers, with their share of what is given for each row."""
    schema = SCHEMAS[part]
    parts = [schema.empty_table()]
    for layer, counts, given in tables:
        first, second = np.nonzero(counts)
        found = counts[first, second]
        columns = {
            "layer": np.full(len(first), layer, np.int32),
            "expert": first.astype(np.int32),
            schema.names[2]: second.astype(np.int32),
            unit: found,
            "probability": found / given[first],
        }
        parts.append(pa.table(columns, schema=schema))
    return pa.concat_tables(parts).combine_chunks()


def _by_group(
    name: str,
    tally: RoutingTally,
    groups: np.ndarray,
    shown: Callable[[np.ndarray], object],
    *,
    counted: np.ndarray | None = None,
) -> pa.Table:
    """Assignments by group and expert of each layer, the pairs that occur."""
    schema = SCHEMAS[f"{name}s"]
    chosen = np.ones(len(groups), bool) if counted is None else counted
    size = int(groups[chosen].max(initial=-1)) + 1
    sums = contingency(groups[chosen], tally.items[chosen], size)
    parts = [schema.empty_table()]
    for layer, columns in enumerate(tally.columns):
        counts = sums[:, columns]
        rows, experts = np.nonzero(counts)
        found = counts[rows, experts]
        values = {
            "layer": np.full(len(rows), layer, np.int32),
            name: pa.array(shown(rows), schema.field(name).type),
            "expert": experts.astype(np.int32),
            "tokens": found,
            "share": found / counts.sum(axis=1)[rows],
        }
        parts.append(pa.table(values, schema=schema))
    return pa.concat_tables(parts).combine_chunks()


def _item_table(tally: RoutingTally, items: Items) -> pa.Table:
    schema = items_schema(tally.items.shape[1])
    flat = pa.FixedSizeListArray.from_arrays(pa.array(tally.items.ravel()), type=schema.field("activations").type)
    columns = {
        "item_id": pa.array(list(items.ids), pa.string()),
        "label": pa.array(list(items.labels), pa.string()),
        "cluster": pa.array(items.clusters.astype(np.int32), mask=items.clusters < 0),
        "tokens": tally.item_tokens,
        "activations": flat,
    }
    return pa.table(columns, schema=schema)
