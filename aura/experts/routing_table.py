"""The routing table: which expert is sent what, how evenly, and whether that has to do with the labels."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from aura.experts.dataset import check_vectors
from aura.tiers.values import Part

if TYPE_CHECKING:
    from aura.experts.model import ExpertModel
    from aura.experts.switch import Routing

METADATA_KEY = b"aura"
DEAD_UTILISATION = 0.1
"""An expert is dead below a tenth of its fair share 1/E of the tokens."""
SHUFFLES = 20

EXPERT_SCHEMA = pa.schema(
    [
        pa.field("expert", pa.int32(), nullable=False),
        pa.field("tokens", pa.int64(), nullable=False),
        pa.field("share", pa.float64(), nullable=False),
        pa.field("kept", pa.int64(), nullable=False),
        pa.field("dropped", pa.int64(), nullable=False),
        pa.field("dropped_share", pa.float64(), nullable=False),
        pa.field("mean_probability", pa.float64(), nullable=False),
        pa.field("mean_gate", pa.float64()),
        pa.field("utilisation", pa.float64(), nullable=False),
    ]
)
LABEL_SCHEMA = pa.schema(
    [
        pa.field("label", pa.string()),
        pa.field("expert", pa.int32(), nullable=False),
        pa.field("tokens", pa.int64(), nullable=False),
        pa.field("share", pa.float64(), nullable=False),
    ]
)


class RoutingTableError(ValueError):
    """Tables that are not a routing table."""


@dataclass(frozen=True)
class RoutingFigures:
    """One layer's routing in single figures.

    Attributes:
        items: Items routed.
        experts: Number of experts E.
        capacity_factor: Places per expert over the fair share of a batch.
        batch_size: Items that shared the places.
        normalised_entropy: Entropy of the load over log E: 1 is even, 0 is one expert for all.
        max_over_mean: Load of the busiest expert over the mean load.
        dead_experts: Experts below `DEAD_UTILISATION` of their fair share.
        dropped_share: Share of the items without a place.
        mutual_information_bits: Mutual information of label and expert over the labelled items (plug-in estimate).
        shuffled_mean_bits: Its mean with the labels shuffled: what chance alone gives.
        shuffled_max_bits: Its maximum with the labels shuffled.
        seed: Seed of the shuffles.
        data_digest: Digest of the data that the model was trained on.
    """

    items: int
    experts: int
    capacity_factor: float
    batch_size: int
    normalised_entropy: float
    max_over_mean: float
    dead_experts: int
    dropped_share: float
    mutual_information_bits: float
    shuffled_mean_bits: float
    shuffled_max_bits: float
    seed: int
    data_digest: str


@dataclass(frozen=True, eq=False)
class RoutingTable:
    """Routing of a set of items.

    Attributes:
        experts: One row per expert. tokens and share are before capacity, kept and dropped after; dropped_share is of
            the expert's own tokens; mean_probability is the mean router probability over all items (the P of the
            load-balancing loss); mean_gate is the mean over the expert's own items, null when it has none; utilisation
            is share * E.
        labels: One row per label (null: no label) and expert, sorted; share is of the label's items.
        figures: The single figures.
    """

    experts: pa.Table
    labels: pa.Table
    figures: RoutingFigures

    def __post_init__(self) -> None:
        for name, table, schema in (("experts", self.experts, EXPERT_SCHEMA), ("labels", self.labels, LABEL_SCHEMA)):
            if not table.schema.equals(schema, check_metadata=False):
                raise RoutingTableError(
                    f"the {name} of a routing table have the columns\n{table.schema}\nexpected\n{schema}"
                )
        if self.experts.num_rows != self.figures.experts:
            raise RoutingTableError(f"{self.experts.num_rows} rows for {self.figures.experts} experts")

    def to_parts(self) -> Mapping[str, Part]:
        """The tables as "experts" (with the figures in its schema's metadata) and "labels"."""
        figures = json.dumps(asdict(self.figures), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return {"experts": self.experts.replace_schema_metadata({METADATA_KEY: figures}), "labels": self.labels}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Part]) -> Self:
        """Put a table together; raises RoutingTableError when the parts are not one."""
        experts, labels = parts.get("experts"), parts.get("labels")
        if not isinstance(experts, pa.Table) or not isinstance(labels, pa.Table):
            raise RoutingTableError(f"a routing table has the tables 'experts' and 'labels'; got {sorted(parts)}")
        metadata = (experts.schema.metadata or {}).get(METADATA_KEY, b"")
        try:
            figures = TypeAdapter(RoutingFigures).validate_json(metadata)
        except ValidationError as error:
            raise RoutingTableError(f"the figures of the routing table cannot be read: {error}") from error
        return cls(experts.replace_schema_metadata(None), labels.replace_schema_metadata(None), figures)


@dataclass(frozen=True, eq=False)
class RoutedItems:
    """What a router did with each of n items.

    Attributes:
        expert: The chosen expert [n] int64.
        gate: Its probability [n] float64.
        kept: Whether it had a place [n] bool.
        probability: Mean router probability of each expert over all items [E] float64.
    """

    expert: np.ndarray
    gate: np.ndarray
    kept: np.ndarray
    probability: np.ndarray


def route(
    model: ExpertModel,
    vectors: np.ndarray,
    labels: Sequence[str | None],
    item_ids: Sequence[str],
    *,
    seed: int = 0,
) -> RoutingTable:
    """Send all items through the trained router, in batches of the training's size in order of item id.

    The order of the rows does not matter, and the same input gives the same bits on one machine.

    Args:
        model: The trained model.
        vectors: [n, d] float32, finite, n > 0.
        labels: One label or None per vector.
        item_ids: One id per vector.
        seed: Seed of the label shuffles.

    Returns:
        The routing table.

    Raises:
        ValueError: The input is malformed or of another dimension than the model.
    """
    check_vectors(vectors, labels, item_ids)
    if len(vectors) == 0 or vectors.shape[1] != model.card.dimension:
        raise ValueError(f"vectors are {list(vectors.shape)}; expected [at least 1, {model.card.dimension}]")
    order = sorted(range(len(item_ids)), key=lambda row: item_ids[row])
    return tabulate(_routed(model, vectors[order]), [labels[row] for row in order], model, seed)


def _routings(model: ExpertModel, vectors: np.ndarray) -> list[Routing]:
    """The routing of each batch of the training's size."""
    import torch

    from aura.experts.reproducible import reproducible

    config = model.card.config
    module = model.to_module()
    with torch.no_grad(), reproducible(config.threads):
        batches = torch.split(torch.from_numpy(vectors), config.batch_size)
        return [module.route(batch, config.capacity_factor) for batch in batches]


def _routed(model: ExpertModel, vectors: np.ndarray) -> RoutedItems:
    import torch

    routings = _routings(model, vectors)
    probability = torch.cat([routing.probabilities for routing in routings]).double().mean(dim=0)
    return RoutedItems(
        expert=torch.cat([routing.expert for routing in routings]).numpy(),
        gate=torch.cat([routing.gate for routing in routings]).double().numpy(),
        kept=torch.cat([routing.kept for routing in routings]).numpy(),
        probability=probability.numpy(),
    )


def router_probabilities(model: ExpertModel, vectors: np.ndarray) -> np.ndarray:
    """What the router gives each expert for each item, before capacity.

    Args:
        model: The trained model.
        vectors: [n, d] float32, finite, n > 0.

    Returns:
        float32 [n, experts]; each row sums to 1.

    Raises:
        ValueError: The vectors are of another dimension than the model.
    """
    if len(vectors) == 0 or vectors.shape[1] != model.card.dimension:
        raise ValueError(f"vectors are {list(vectors.shape)}; expected [at least 1, {model.card.dimension}]")
    probabilities: np.ndarray = np.concatenate(
        [each.probabilities.numpy() for each in _routings(model, vectors.copy())]
    )
    return probabilities


def tabulate(items: RoutedItems, labels: Sequence[str | None], model: ExpertModel, seed: int) -> RoutingTable:
    """The routing table of routed items with their labels."""
    config = model.card.config
    experts, total = config.experts, len(items.expert)
    tokens = np.bincount(items.expert, minlength=experts)
    kept = np.bincount(items.expert, weights=items.kept, minlength=experts).astype(np.int64)
    gates = np.bincount(items.expert, weights=items.gate, minlength=experts)
    share = tokens / total
    used = np.maximum(tokens, 1)
    table = pa.table(
        {
            "expert": np.arange(experts, dtype=np.int32),
            "tokens": tokens,
            "share": share,
            "kept": kept,
            "dropped": tokens - kept,
            "dropped_share": (tokens - kept) / used,
            "mean_probability": items.probability,
            "mean_gate": pa.array(gates / used, mask=tokens == 0),
            "utilisation": share * experts,
        },
        schema=EXPERT_SCHEMA,
    )
    names = sorted({label for label in labels if label is not None})
    number = {label: index for index, label in enumerate(names)}
    codes = np.array([number[label] if label is not None else -1 for label in labels], dtype=np.int64)
    labelled = codes >= 0
    known, chosen = codes[labelled], items.expert[labelled]
    rng = np.random.default_rng(seed)
    shuffled = [mutual_information(rng.permutation(known), chosen, len(names), experts) for _ in range(SHUFFLES)]
    figures = RoutingFigures(
        items=total,
        experts=experts,
        capacity_factor=config.capacity_factor,
        batch_size=config.batch_size,
        normalised_entropy=_entropy_bits(share) / math.log2(experts),
        max_over_mean=float(tokens.max() * experts / total),
        dead_experts=int((share * experts < DEAD_UTILISATION).sum()),
        dropped_share=float((tokens - kept).sum() / total),
        mutual_information_bits=mutual_information(known, chosen, len(names), experts),
        shuffled_mean_bits=float(np.mean(shuffled)),
        shuffled_max_bits=max(shuffled),
        seed=seed,
        data_digest=model.card.data_digest,
    )
    return RoutingTable(table, _label_table(codes, items.expert, names, experts), figures)


def mutual_information(labels: np.ndarray, chosen: np.ndarray, label_count: int, experts: int) -> float:
    """Mutual information in bits of two int64 columns [n]: H(label) + H(expert) - H(label, expert); 0 for n = 0.

    The plug-in estimate, biased upwards by about (labels - 1)(experts - 1) / (2 n ln 2): compare it with shuffled
    labels.
    """
    if len(labels) == 0:
        return 0.0
    counts = np.bincount(labels * experts + chosen, minlength=label_count * experts).reshape(label_count, experts)
    joint = counts / len(labels)
    information = _entropy_bits(joint.sum(axis=1)) + _entropy_bits(joint.sum(axis=0)) - _entropy_bits(joint.ravel())
    return max(0.0, information)


def _entropy_bits(share: np.ndarray) -> float:
    positive = share[share > 0]
    return float(-(positive * np.log2(positive)).sum())


def _label_table(codes: np.ndarray, chosen: np.ndarray, names: Sequence[str], experts: int) -> pa.Table:
    """Counts of every label and expert that occur together or not; items without a label come last."""
    rows = np.where(codes >= 0, codes, len(names))
    keys: list[str | None] = [*names, None] if (codes < 0).any() else list(names)
    counts = np.bincount(rows * experts + chosen, minlength=len(keys) * experts).reshape(len(keys), experts)
    return pa.table(
        {
            "label": pa.array([key for key in keys for _ in range(experts)], pa.string()),
            "expert": np.tile(np.arange(experts, dtype=np.int32), len(keys)),
            "tokens": counts.ravel(),
            "share": (counts / counts.sum(axis=1, keepdims=True)).ravel(),
        },
        schema=LABEL_SCHEMA,
    )
