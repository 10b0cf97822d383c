"""Weighted graphs and the shape of their flag complexes: correlations between signals, messages between parties.

A network is filtered in either direction. With the strong edges first, components say which groups act together and
loops say where a group closes around something that is not in it; with the weak edges first, what barely speaks comes
together. Both follow Horak, Maletic, Rajkovic, "Persistent homology of complex networks" (2009); the metric of
correlations is Gower's, "Some distance properties of latent root and vector methods" (1966).

Belongs here: networks, their windows, their filtrations. Does not: whether two networks differ
(`aura.topology.drift.networks`), what is measured or sent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from aura.tiers.values import Part

METADATA_KEY = b"aura"
NODES, EDGES = "nodes", "edges"
NODES_SCHEMA = pa.schema([("window", pa.int32()), ("name", pa.string())])
EDGES_SCHEMA = pa.schema(
    [("window", pa.int32()), ("source", pa.string()), ("target", pa.string()), ("weight", pa.float64())]
)
CONSTANT = 1e-12
"""A signal that varies by less than this share of its largest value is constant: the rest is rounding."""


class NetworkError(ValueError):
    """A network cannot be made or is malformed; the message names the node, the row or the shape."""


class Direction(StrEnum):
    """Which edges enter the filtration first."""

    STRONG_FIRST = "strong first"
    WEAK_FIRST = "weak first"


@dataclass(frozen=True, eq=False)
class Network:
    """Nodes with symmetric weights.

    Attributes:
        names: Unique names of the n nodes.
        weights: float64 [n, n], symmetric; NaN where there is no edge, and on the diagonal. Correlations: |rho| in
            [0, 1]. Messages: how many, in either direction, at least 1.
        kind: What a weight is.
        messages: Messages counted, those of a node to itself included; 0 for correlations.
    """

    names: tuple[str, ...]
    weights: NDArray[np.float64]
    kind: Literal["correlation", "messages"]
    messages: int = 0

    def __post_init__(self) -> None:
        count, weights = len(self.names), self.weights
        if len(set(self.names)) != count:
            twice = sorted(each for each in set(self.names) if self.names.count(each) > 1)
            raise NetworkError(f"nodes are named twice: {twice[:5]}; give every node a name of its own")
        if weights.shape != (count, count) or weights.dtype != np.float64:
            raise NetworkError(
                f"{count} nodes have weights {weights.dtype} {weights.shape}, expected float64 {(count, count)}"
            )
        if not np.array_equal(weights, weights.T, equal_nan=True) or not np.isnan(np.diagonal(weights)).all():
            raise NetworkError("the weights are not symmetric with NaN on the diagonal: add both directions up first")
        present = weights[~np.isnan(weights)]
        least, most = (1.0, float(self.messages)) if self.kind == "messages" else (0.0, 1.0)
        if len(present) and not (present.min() >= least and present.max() <= most):
            raise NetworkError(
                f"weights reach from {present.min():g} to {present.max():g}, expected {least:g} to {most:g} of"
                f" {self.kind}"
            )

    @property
    def edges(self) -> int:
        """Number of edges."""
        return int((~np.isnan(self.weights)).sum()) // 2

    def filtration(self, direction: Direction) -> NDArray[np.float64]:
        """When each edge enters: float64 [n, n], symmetric, 0 on the diagonal, infinite where there is no edge.

        Correlations: sqrt(2 (1 - |rho|)), the distance of standardised signals up to their sign, and with the weak
        edges first sqrt(2 |rho|). Messages: ln(W / c) for c of W messages, the surprise of one of them in nats, and
        with the weak edges first ln c. Either direction runs from 0 to `horizon`.
        """
        if self.kind == "correlation":
            strength = self.weights if direction is Direction.WEAK_FIRST else 1.0 - self.weights
            values = np.sqrt(2.0 * strength)
        else:
            values = np.log(self.weights)
            if direction is Direction.STRONG_FIRST:
                values = math.log(max(self.messages, 1)) - values
        entering = np.where(np.isnan(values), np.inf, np.maximum(values, 0.0))
        np.fill_diagonal(entering, 0.0)
        return entering

    @property
    def horizon(self) -> float:
        """Where bars that never end are cut off: where half a message would enter, or a correlation of 0 (or of 1)."""
        return math.sqrt(2.0) if self.kind == "correlation" else math.log(2.0 * max(self.messages, 1))

    def bars(self, direction: Direction, *, max_dimension: int = 1) -> tuple[NDArray[np.float64], ...]:
        """Persistence of the flag complex: for each dimension float64 [m, 2], birth and death, all finite.

        Nodes are there from 0 on. A component or loop that never ends, for want of edges, is ended at `horizon`, so
        that networks with other numbers of components stay at a finite distance.
        """
        from aura.topology.engine import rips_bars

        if not self.names:
            return tuple(np.empty((0, 2)) for _ in range(max_dimension + 1))
        bars = rips_bars(self.filtration(direction), max_dimension)
        ended = np.minimum(bars[:, 1:], self.horizon)
        return tuple(ended[bars[:, 0] == dimension] for dimension in range(max_dimension + 1))


@dataclass(frozen=True, eq=False)
class MessageGraph:
    """Messages counted by sender and receiver.

    Attributes:
        names: The nodes that sent or received one, sorted.
        counts: int64 [n, n], from the row's node to the column's; a node's messages to itself on the diagonal.
    """

    names: tuple[str, ...]
    counts: NDArray[np.int64]

    def network(self) -> Network:
        """Add both directions up; messages of a node to itself are no edge."""
        weights = (self.counts + self.counts.T).astype(np.float64)
        weights[weights == 0] = np.nan
        np.fill_diagonal(weights, np.nan)
        return Network(self.names, weights, "messages", int(self.counts.sum()))


@dataclass(frozen=True)
class NetworkSeries:
    """Networks of consecutive windows of equal length.

    Attributes:
        networks: One a window, in order of time.
        window: Rows or messages of a window.
    """

    networks: tuple[Network, ...]
    window: int

    def __post_init__(self) -> None:
        if len({each.kind for each in self.networks}) > 1:
            raise NetworkError("a series mixes correlations and messages: compare one kind at a time")

    @property
    def names(self) -> tuple[str, ...]:
        """Every node of any window, sorted."""
        return tuple(sorted({name for each in self.networks for name in each.names}))

    def to_parts(self) -> Mapping[str, Part]:
        """Take the series apart: a table of nodes and one of edges, the rest as JSON in the metadata of the first."""
        nodes = [(number, name) for number, each in enumerate(self.networks) for name in each.names]
        edges = [edge for number, each in enumerate(self.networks) for edge in _edges(number, each)]
        note = _Note(
            kind=self.networks[0].kind if self.networks else "messages",
            window=self.window,
            messages=tuple(each.messages for each in self.networks),
        )
        metadata = {METADATA_KEY: _NOTE.dump_json(note)}
        return {NODES: _table(nodes, NODES_SCHEMA.with_metadata(metadata)), EDGES: _table(edges, EDGES_SCHEMA)}

    @classmethod
    def from_parts(cls, parts: Mapping[str, Part]) -> Self:
        """Put a series together from what `to_parts` gave.

        Raises:
            NetworkError: A part is missing or malformed.
        """
        nodes, edges = _kept_table(parts, NODES, NODES_SCHEMA), _kept_table(parts, EDGES, EDGES_SCHEMA)
        try:
            note = _NOTE.validate_json((nodes.schema.metadata or {}).get(METADATA_KEY, b""))
        except ValidationError as error:
            raise NetworkError(f"the table {NODES!r} has malformed metadata {METADATA_KEY!r}: {error}") from error
        places: list[dict[str, int]] = [{} for _ in note.messages]
        for row in nodes.to_pylist():
            places[row["window"]][row["name"]] = len(places[row["window"]])
        weights = [np.full((len(place), len(place)), np.nan) for place in places]
        for row in edges.to_pylist():
            place, window = places[row["window"]], weights[row["window"]]
            source, target = place[row["source"]], place[row["target"]]
            window[source, target] = window[target, source] = row["weight"]
        made = zip(places, weights, note.messages, strict=True)
        return cls(tuple(Network(tuple(place), w, note.kind, m) for place, w, m in made), note.window)


def correlation_network(signals: NDArray[np.floating], names: Sequence[str]) -> Network:
    """Correlate signals: weights |rho| (Pearson).

    A signal that does not vary has no correlation: its node is there without edges.

    Args:
        signals: float32 or float64 [t, k], t >= 3, one row a time, finite.
        names: Names of the k signals.

    Raises:
        NetworkError: Wrong shape, fewer than 3 rows, or a value that is not finite.
    """
    values = _checked_signals(signals, names)
    if len(values) < 3:
        raise NetworkError(f"{len(values)} rows of signals: a correlation needs at least 3")
    _, exponents = np.frexp(np.abs(values).max(axis=0))
    values = np.ldexp(values, -exponents)  # to a largest value near 1, so that no square overflows or vanishes
    centred = values - values.mean(axis=0)
    norms = np.linalg.norm(centred, axis=0)
    constant = norms <= CONSTANT * np.abs(values).max(axis=0) * math.sqrt(len(values))
    unit = centred / np.where(constant, 1.0, norms)
    weights = np.minimum(np.abs(unit.T @ unit), 1.0)
    weights = np.maximum(weights, weights.T)
    weights[constant] = weights[:, constant] = np.nan
    np.fill_diagonal(weights, np.nan)
    return Network(tuple(names), weights, "correlation")


def message_graph(senders: Sequence[str], receivers: Sequence[str]) -> MessageGraph:
    """Count messages by sender and receiver.

    Raises:
        NetworkError: There are not as many senders as receivers.
    """
    if len(senders) != len(receivers):
        raise NetworkError(f"{len(senders)} senders and {len(receivers)} receivers: expected one of each a message")
    names = sorted(set(senders) | set(receivers))
    place = {name: number for number, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    rows = np.array([place[each] for each in senders], dtype=np.int64)
    columns = np.array([place[each] for each in receivers], dtype=np.int64)
    np.add.at(counts, (rows, columns), 1)
    return MessageGraph(tuple(names), counts)


def correlation_windows(
    signals: NDArray[np.floating], names: Sequence[str], *, window: int, gap: int = 0
) -> NetworkSeries:
    """Cut signals into consecutive windows and correlate each; rows left over at the end are not used.

    Args:
        signals: [t, k] in order of time, finite.
        names: Names of the k signals.
        window: Rows of a window, at least 3.
        gap: Rows left out between two windows, so that one tells less of the next.

    Raises:
        NetworkError: Wrong shape, size, or a value that is not finite.
    """
    values = _checked_signals(signals, names)
    if window < 3 or gap < 0:
        raise NetworkError(f"window {window}, gap {gap}: expected a window of at least 3 rows and a gap of 0 or more")
    starts = range(0, len(values) - window + 1, window + gap)
    return NetworkSeries(tuple(correlation_network(values[start : start + window], names) for start in starts), window)


def message_windows(senders: Sequence[str], receivers: Sequence[str], *, window: int) -> NetworkSeries:
    """Cut messages, in order of time, into windows of equally many and count each; those left over are not used.

    Raises:
        NetworkError: Not as many senders as receivers, or a window of less than 1.
    """
    if len(senders) != len(receivers):
        raise NetworkError(f"{len(senders)} senders and {len(receivers)} receivers: expected one of each a message")
    if window < 1:
        raise NetworkError(f"window {window}: expected at least 1 message")
    starts = range(0, len(senders) - window + 1, window)
    cut = ((senders[start : start + window], receivers[start : start + window]) for start in starts)
    return NetworkSeries(tuple(message_graph(sent, received).network() for sent, received in cut), window)


@dataclass(frozen=True)
class _Note:
    kind: Literal["correlation", "messages"]
    window: int
    messages: tuple[int, ...]


_NOTE = TypeAdapter(_Note)


def _checked_signals(signals: NDArray[np.floating], names: Sequence[str]) -> NDArray[np.float64]:
    if signals.ndim != 2 or signals.shape[1] != len(names):
        raise NetworkError(
            f"signals of shape {signals.shape} and {len(names)} names: expected [times, signals], one name each"
        )
    values = signals.astype(np.float64, copy=False)
    finite = np.isfinite(values)
    if not finite.all():
        column = int(np.argmin(finite.all(axis=0)))
        raise NetworkError(
            f"signal {names[column]!r} holds {int((~finite[:, column]).sum())} values that are not finite, the first in"
            f" row {int(np.argmin(finite[:, column]))}: fill or leave out those rows"
        )
    return values


def _edges(number: int, network: Network) -> list[tuple[int, str, str, float]]:
    rows, columns = np.nonzero(np.triu(~np.isnan(network.weights), 1))
    found = zip(rows.tolist(), columns.tolist(), network.weights[rows, columns].tolist(), strict=True)
    return [(number, network.names[row], network.names[column], weight) for row, column, weight in found]


def _kept_table(parts: Mapping[str, Part], name: str, schema: pa.Schema) -> pa.Table:
    table = parts.get(name)
    if not isinstance(table, pa.Table) or not table.schema.equals(schema):
        raise NetworkError(f"a series of networks is kept with an Arrow table {name!r} of the columns\n{schema}")
    return table


def _table(rows: Sequence[tuple[object, ...]], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else ([] for _ in schema)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
