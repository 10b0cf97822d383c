"""The routing table: which expert of which layer is sent what, how evenly, and what that has to do with the items.

Belongs here: the Arrow schemas, the value that is stored, reading it. Does not: making it of counts (`tabulate`).

Layers are numbered from 0 in the order in which they run; dense layers between sparse ones have no number. The tables
of pairs and groups hold the rows that occur.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Self

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from aura.tiers.values import Part

METADATA_KEY = b"aura"


def _schema(**columns: pa.DataType) -> pa.Schema:
    """Columns by name; those that end in an underscore may be null."""
    return pa.schema([pa.field(name.rstrip("_"), kind, nullable=name.endswith("_")) for name, kind in columns.items()])


SCHEMAS: Mapping[str, pa.Schema] = {
    "experts": _schema(
        layer=pa.int32(),
        expert=pa.int32(),
        tokens=pa.int64(),
        share=pa.float64(),
        utilisation=pa.float64(),
        mean_probability=pa.float64(),
        mean_gate_=pa.float64(),
        mean_weight_=pa.float64(),
        kept=pa.int64(),
        dropped=pa.int64(),
        dropped_share=pa.float64(),
    ),
    "layers": _schema(
        layer=pa.int32(),
        name=pa.string(),
        stack=pa.string(),
        scoring=pa.string(),
        experts=pa.int32(),
        top_k=pa.int32(),
        tokens=pa.int64(),
        assignments=pa.int64(),
        normalised_entropy=pa.float64(),
        max_over_mean=pa.float64(),
        coefficient_of_variation=pa.float64(),
        jain=pa.float64(),
        dead_experts=pa.int32(),
        dropped=pa.int64(),
        drop_rate=pa.float64(),
        label_bits=pa.float64(),
        label_shuffled_mean_bits=pa.float64(),
        label_shuffled_max_bits=pa.float64(),
        cluster_bits=pa.float64(),
        cluster_shuffled_mean_bits=pa.float64(),
        cluster_shuffled_max_bits=pa.float64(),
        vocabulary_ids=pa.int32(),
        vocabulary_share=pa.float64(),
        vocabulary_specialisation_=pa.float64(),
        vocabulary_shuffled_mean_=pa.float64(),
        vocabulary_shuffled_max_=pa.float64(),
        saturation_=pa.float64(),
    ),
    "coactivation": _schema(
        layer=pa.int32(), expert=pa.int32(), other=pa.int32(), tokens=pa.int64(), probability=pa.float64()
    ),
    "transitions": _schema(
        layer=pa.int32(), expert=pa.int32(), next_expert=pa.int32(), pairs=pa.int64(), probability=pa.float64()
    ),
    "labels": _schema(layer=pa.int32(), label_=pa.string(), expert=pa.int32(), tokens=pa.int64(), share=pa.float64()),
    "clusters": _schema(layer=pa.int32(), cluster=pa.int32(), expert=pa.int32(), tokens=pa.int64(), share=pa.float64()),
}
"""The tables of fixed columns, by their part's name."""


def items_schema(experts: int) -> pa.Schema:
    """The schema of the table of items, for this many experts over all layers."""
    return _schema(
        item_id=pa.string(),
        label_=pa.string(),
        cluster_=pa.int32(),
        tokens=pa.int64(),
        activations=pa.list_(pa.field("item", pa.int32(), nullable=False), experts),
    )


class RoutingTableError(ValueError):
    """Tables that are not a routing table."""


@dataclass(frozen=True)
class RoutingFigures:
    """What a whole routing table is of.

    Attributes:
        model: Name of the model: a hub name, a directory, or "expert_model".
        fingerprint: Digest of what the model is.
        items: Items routed.
        tokens: Their tokens, padding left out.
        truncated: Items whose end was cut off.
        token_limit: Tokens of an item that are read; None where items are no texts.
        capacity_factor: Places per expert over the fair share of a batch; None where the model's own rule holds.
        batch_size: Most tokens that shared places, padding included.
        labels: Distinct labels.
        clusters: Distinct clusters of the items' embeddings.
        seed: Seed of the clusters and of the shuffles.
        shuffles: Shuffles behind each baseline.
        earlier: Name of the earlier checkpoint that saturation compares with; None where there is none.
        made_of: Digest of everything that the table follows from, where its maker keeps one; "" otherwise.
    """

    model: str
    fingerprint: str
    items: int
    tokens: int
    truncated: int
    token_limit: int | None
    capacity_factor: float | None
    batch_size: int
    labels: int
    clusters: int
    seed: int
    shuffles: int
    earlier: str | None = None
    made_of: str = ""


@dataclass(frozen=True, eq=False)
class RoutingTable:
    """Routing of a set of items through the sparse layers of a model.

    Attributes:
        experts: One row per layer and expert. tokens (the assignments to it), share (of the layer's assignments) and
            utilisation (share * E) are before capacity, kept and dropped after; dropped_share is of the expert's own
            tokens. mean_probability is the mean router probability over all tokens (the P of the load-balancing loss);
            mean_gate the mean over the expert's own tokens and mean_weight the mean of what its output is multiplied
            by, 0 where dropped, both null where it has none.
        layers: One row per layer: its form, and its figures as defined in `aura.experts.routing.figures`. The
            shuffled columns say what chance gives the figure before them; the vocabulary specialisation stands on
            vocabulary_ids ids, which have vocabulary_share of the tokens; saturation is the share of a token's choices
            that the earlier checkpoint made too.
        coactivation: Of two experts in one token's choices: tokens, and the probability of `other` given `expert`. All
            pairs of the k choices, in both directions.
        transitions: From an expert to one of the next layer of the same stack: pairs of choices of one token, and
            their share of the expert's pairs.
        labels: Per layer, label (null: none) and expert: assignments, and their share of the label's.
        clusters: The same by cluster of the items' embeddings.
        items: One row per item in order of its id. activations are its assignments to the experts of all layers, side
            by side; see `activations`.
        figures: What all this is of.
    """

    experts: pa.Table
    layers: pa.Table
    coactivation: pa.Table
    transitions: pa.Table
    labels: pa.Table
    clusters: pa.Table
    items: pa.Table
    figures: RoutingFigures

    def __post_init__(self) -> None:
        wanted = {**SCHEMAS, "items": items_schema(self.experts.num_rows)}
        for name, schema in wanted.items():
            table: pa.Table = getattr(self, name)
            if not table.schema.equals(schema, check_metadata=False):
                raise RoutingTableError(
                    f"the {name} of a routing table have the columns\n{table.schema}\nexpected\n{schema}"
                )
        sizes = self.layers["experts"].to_pylist()
        if self.experts["layer"].to_pylist() != [layer for layer, size in enumerate(sizes) for _ in range(size)]:
            raise RoutingTableError(f"{self.experts.num_rows} rows for layers of {sizes} experts")

    def columns(self, layer: int) -> slice:
        """Where the experts of a layer are among those of all layers."""
        sizes = self.layers["experts"].to_pylist()
        return slice(sum(sizes[:layer]), sum(sizes[: layer + 1]))

    def activations(self, layer: int) -> np.ndarray:
        """Assignments of each item to each expert of a layer [items, E], int32."""
        flat = self.items["activations"].combine_chunks().flatten().to_numpy()
        matrix: np.ndarray = flat.reshape(self.items.num_rows, self.experts.num_rows)[:, self.columns(layer)]
        return matrix

    def column(self, name: str) -> np.ndarray:
        """A figure of the layers, one number per layer; NaN where there is none."""
        values: np.ndarray = self.layers[name].to_numpy(zero_copy_only=False).astype(np.float64)
        return values

    def to_parts(self) -> Mapping[str, Part]:
        """The tables by name, the figures in the metadata of "experts"."""
        figures = json.dumps(asdict(self.figures), sort_keys=True, separators=(",", ":"), allow_nan=False)
        tables = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "figures"}
        return {**tables, "experts": self.experts.replace_schema_metadata({METADATA_KEY: figures})}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Part]) -> Self:
        """Put a table together; raises RoutingTableError when the parts are not one."""
        names = [each.name for each in fields(cls) if each.name != "figures"]
        tables = {name: part for name in names if isinstance(part := parts.get(name), pa.Table)}
        if len(tables) < len(names):
            raise RoutingTableError(f"a routing table has the tables {', '.join(names)}; got {sorted(parts)}")
        metadata = (tables["experts"].schema.metadata or {}).get(METADATA_KEY, b"")
        try:
            figures = TypeAdapter(RoutingFigures).validate_json(metadata)
        except ValidationError as error:
            raise RoutingTableError(f"the figures of the routing table cannot be read: {error}") from error
        return cls(**{name: table.replace_schema_metadata(None) for name, table in tables.items()}, figures=figures)
