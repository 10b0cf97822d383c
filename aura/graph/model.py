"""Nodes, edges, and what is written to and read from the graph.

Belongs here: the values at the boundary, their allowed content, their canonical form. Does not: how they are stored.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, Self

from aura.graph.errors import GraphValueError

Property = str | int | float | bool
Direction = Literal["out", "in", "both"]

MAX_KEY_CHARACTERS = 1000
"""A key of four-byte characters still fits into the index behind Neo4j's uniqueness constraint (about 8 kB)."""

PROPERTY_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
RESERVED_NAME = "key"


class Label(StrEnum):
    """The kinds of nodes; nothing else becomes part of a query's text."""

    ASSET = "Asset"
    MATERIALIZATION = "Materialization"
    SOURCE = "Source"
    ITEM = "Item"
    ITEM_GROUP = "ItemGroup"
    EXPERT = "Expert"
    TIER = "Tier"
    STORED_OBJECT = "StoredObject"
    COMPONENT = "Component"
    DECISION = "Decision"


class EdgeType(StrEnum):
    """The kinds of edges. Each points from what acts to what it acts on, so that impact is what can be reached."""

    FEEDS = "FEEDS"  # an input to what was made from it
    MATERIALIZED_AS = "MATERIALIZED_AS"  # an asset to one of its materializations
    CONTAINS = "CONTAINS"  # a source to its items, an expert model to its experts
    HOLDS = "HOLDS"  # a tier to the objects that live on it
    INFLUENCES = "INFLUENCES"  # a component to another
    CONCERNS = "CONCERNS"  # a decision to what it is about


@dataclass(frozen=True, order=True)
class NodeId:
    """Which node: written `Label:key`.

    Raises:
        GraphValueError: The key is empty, too long or not encodable.
    """

    label: Label
    key: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", Label(self.label))
        if not self.key or len(self.key) > MAX_KEY_CHARACTERS:
            raise GraphValueError(
                f"the key of a {self.label} has {len(self.key)} characters ({self.key[:40]!r}): expected 1 to "
                f"{MAX_KEY_CHARACTERS}"
            )
        _check_text(self.key, f"the key of a {self.label}")

    def __str__(self) -> str:
        return f"{self.label}:{self.key}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `Label:key`.

        Raises:
            GraphValueError: There is no such label, or no key.
        """
        label, _, key = text.partition(":")
        if label not in set(Label):
            raise GraphValueError(f"{text!r} names no node: expected Label:key with a label of {', '.join(Label)}")
        return cls(Label(label), key)


@dataclass(frozen=True)
class Node:
    """A node; writing it replaces all properties of the node with this id.

    Raises:
        GraphValueError: A property has a wrong name or value.
    """

    id: NodeId
    properties: Mapping[str, Property] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "properties", _checked(self.properties, str(self.id)))


@dataclass(frozen=True)
class Edge:
    """An edge; there is at most one of a type between two nodes, and writing it replaces all its properties.

    Raises:
        GraphValueError: A property has a wrong name or value.
    """

    type: EdgeType
    source: NodeId
    target: NodeId
    properties: Mapping[str, Property] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "type", EdgeType(self.type))
        object.__setattr__(self, "properties", _checked(self.properties, str(self)))

    def __str__(self) -> str:
        return f"{self.source} -{self.type}-> {self.target}"


@dataclass(frozen=True)
class DeleteNode:
    """Removes a node and its edges; a node that is not there is no error."""

    id: NodeId


@dataclass(frozen=True)
class ReplaceEdges:
    """Makes these the only edges of a type that leave a node.

    Attributes:
        source: The node; it has to exist.
        type: The type of the edges.
        edges: What they are to be: all leave `source` and are of `type`; their targets have to exist.
        prune: Whether a former target that is left without any edge is removed too.

    Raises:
        GraphValueError: An edge leaves another node or is of another type.
    """

    source: NodeId
    type: EdgeType
    edges: tuple[Edge, ...]
    prune: bool = False

    def __post_init__(self) -> None:
        for edge in self.edges:
            if (edge.source, edge.type) != (self.source, self.type):
                raise GraphValueError(f"{edge} is not one of the {self.type} edges that leave {self.source}")


Write = Node | Edge | DeleteNode | ReplaceEdges


@dataclass(frozen=True)
class Neighbour:
    """A node beside another, and the edge between them."""

    edge: Edge
    node: Node


@dataclass(frozen=True, order=True)
class Step:
    """One edge of a path, from the node before it to `node`."""

    type: EdgeType
    node: NodeId


@dataclass(frozen=True)
class Path:
    """A simple path along the direction of the edges; `len` is the number of its edges."""

    start: NodeId
    steps: tuple[Step, ...] = ()

    def __len__(self) -> int:
        return len(self.steps)

    def __str__(self) -> str:
        return f"{self.start}" + "".join(f" -{step.type}-> {step.node}" for step in self.steps)

    @property
    def order(self) -> tuple[int, tuple[Step, ...]]:
        """Sorts shorter paths first, and equally long ones by the types and nodes on the way."""
        return len(self.steps), self.steps


@dataclass(frozen=True)
class Reached:
    """A node that another has an effect on.

    Attributes:
        id: The node.
        depth: The number of edges on the shortest way to it, from 1.
    """

    id: NodeId
    depth: int


@dataclass(frozen=True)
class GraphCounts:
    """How many nodes and edges there are, by label and type; those without any are left out."""

    nodes: Mapping[Label, int]
    edges: Mapping[EdgeType, int]


def canonical_json(properties: Mapping[str, Property]) -> str:
    """Properties as text: equal texts for equal properties, with 1, 1.0 and true told apart."""
    return json.dumps(dict(properties), sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(element: Node | Edge) -> int:
    """SHA-256 of an element's canonical form, as a number; the digest of a graph is their sum modulo 2**256."""
    if isinstance(element, Node):
        parts = ["node", element.id.label, element.id.key]
    else:
        source, target = element.source, element.target
        parts = ["edge", element.type, source.label, source.key, target.label, target.key]
    text = json.dumps([*parts, canonical_json(element.properties)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")


def _check_text(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise GraphValueError(f"{where} is no valid Unicode ({error.reason}): {text!r}") from error


def _checked(properties: Mapping[str, Property], where: str) -> Mapping[str, Property]:
    for name, value in properties.items():
        if not PROPERTY_NAME.fullmatch(name) or name == RESERVED_NAME:
            raise GraphValueError(
                f"{name!r} cannot name a property of {where}: expected lower-case letters, digits and _, "
                f"and not {RESERVED_NAME!r}"
            )
        if isinstance(value, str):
            _check_text(value, f"the property {name!r} of {where}")
        elif isinstance(value, float) and not math.isfinite(value):
            raise GraphValueError(f"the property {name!r} of {where} is {value}: expected a finite number")
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise GraphValueError(f"the property {name!r} of {where} is {value}: expected at most 64 bits")
        elif not isinstance(value, (int, float)):
            raise GraphValueError(
                f"the property {name!r} of {where} is {value!r}: expected a string, a number or a truth value"
            )
    return MappingProxyType(dict(properties))
