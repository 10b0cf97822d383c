"""Where things come from and where they are, as writes to the graph.

Belongs here: what a materialization, a source's items, a model's experts, a placement and a decision are as nodes and
edges. Does not: writing them; whoever calls hands the result to `GraphStore.apply`.

The same fact gives the same writes, so that telling it twice changes nothing. Every result fits into one batch: beyond
a stated number things are written as groups with counts. What follows from a node's identity is a property of the node,
what happened is a property of an edge: so an input that was made before anyone recorded it can be named without wiping
what is known of it.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from aura.graph.errors import GraphValueError
from aura.graph.model import MAX_KEY_CHARACTERS, Edge, EdgeType, Label, Node, NodeId, Property, ReplaceEdges, Write

MAX_INPUTS = 1000
"""Inputs of one materialization; beyond, only which assets fed it is written, not which of their versions."""

MAX_ITEMS = 1000
"""Items of one source that are nodes each; beyond, there is one group for each label, with its number of items."""

MAX_OBJECTS = 500
"""Objects of one tier that are nodes each; beyond, keys with the same beginning are one, with number and bytes."""


@dataclass(frozen=True)
class Version:
    """One materialized value.

    Attributes:
        asset: Name of the asset.
        partition: Its partition; None when it has none.
        version: Digest of the content.
    """

    asset: str
    partition: str | None
    version: str


@dataclass(frozen=True)
class StoredSize:
    """An object of the tiered store.

    Attributes:
        key: Its key; segments are parted by "/".
        tier: The tier it lives on.
        bytes: Its size.
    """

    key: str
    tier: str
    bytes: int


def asset_node(name: str) -> Node:
    """An asset."""
    return Node(NodeId(Label.ASSET, _key(name)))


def materialization_node(made: Version) -> Node:
    """A materialized value: `asset@version`, and `[partition]` behind it where there is one."""
    key = f"{made.asset.replace('@', '%40')}@{made.version.replace('[', '%5B')}"
    properties: dict[str, Property] = {"asset": _text(made.asset), "version": _text(made.version)}
    if made.partition is not None:
        key += f"[{made.partition}]"
        properties["partition"] = _text(made.partition)
    return Node(NodeId(Label.MATERIALIZATION, _key(key)), properties)


def source_node(name: str) -> Node:
    """A source of the corpus."""
    return Node(NodeId(Label.SOURCE, _key(name)))


def tier_node(name: str) -> Node:
    """A tier of the store."""
    return Node(NodeId(Label.TIER, _key(name)))


def materialized(
    made: Version,
    *,
    inputs: Sequence[Version],
    run_id: str,
    at: datetime,
    cost: Mapping[str, Property],
    source: str | None = None,
) -> list[Write]:
    """A value was made from others.

    The asset leads to the materialization by an edge with run, time and cost; a run that made the same content again
    replaces them. The inputs feed it, and their assets feed its asset.

    Args:
        made: The value.
        inputs: The values that it was computed from.
        run_id: The run.
        at: When, with a time zone.
        cost: What it cost, as measured: name with unit, and figure.
        source: The source of the corpus that was read for it, if any.
    """
    asset, node = asset_node(made.asset), materialization_node(made)
    facts = {**cost, "run_id": _text(run_id), "at": _moment(at)}
    writes: list[Write] = [asset, node, Edge(EdgeType.MATERIALIZED_AS, asset.id, node.id, facts)]
    for name in sorted({each.asset for each in inputs}):
        feeding = asset_node(name)
        writes += [feeding, Edge(EdgeType.FEEDS, feeding.id, asset.id)]
    if len(inputs) <= MAX_INPUTS:
        for each in inputs:
            version = materialization_node(each)
            writes += [version, Edge(EdgeType.FEEDS, version.id, node.id)]
    if source is not None:
        read = source_node(source)
        writes += [read, Edge(EdgeType.FEEDS, read.id, node.id)]
    return writes


def source_items(source: str, items: Iterable[tuple[str, str]]) -> list[Write]:
    """A source has these items and no others.

    Up to MAX_ITEMS each is a node. Beyond, each label is one, with the number of its items; with more labels than that,
    those with the fewest items are one together.

    Args:
        source: Name of the source.
        items: Id and label of each item.
    """
    node, by_id = source_node(source), dict(items)
    prefix = source.replace("/", "%2F")
    parts: list[tuple[NodeId, dict[str, Property]]]
    if len(by_id) <= MAX_ITEMS:
        parts = [
            (NodeId(Label.ITEM, _key(f"{prefix}/{name}")), {"label": _text(label)}) for name, label in by_id.items()
        ]
    else:
        counted = sorted(Counter(by_id.values()).items(), key=lambda pair: (-pair[1], pair[0]))
        shown = counted if len(counted) <= MAX_ITEMS else counted[: MAX_ITEMS - 1]
        parts = [
            (NodeId(Label.ITEM_GROUP, _key(f"{prefix}/{label}")), {"label": _text(label), "items": count})
            for label, count in shown
        ]
        if rest := counted[len(shown) :]:
            together: dict[str, Property] = {"labels": len(rest), "items": sum(count for _, count in rest)}
            parts.append((NodeId(Label.ITEM_GROUP, _key(prefix)), together))
    return [node, *_exactly(node.id, EdgeType.CONTAINS, parts)]


def model_experts(model: Version, experts: int) -> list[Write]:
    """An expert model has experts 0 to `experts - 1`; at most 4,900 fit into a batch."""
    node = materialization_node(model)
    parts: list[tuple[NodeId, dict[str, Property]]] = [
        (NodeId(Label.EXPERT, _key(f"{number}/{node.id.key}")), {"number": number}) for number in range(experts)
    ]
    return [node, *_exactly(node.id, EdgeType.CONTAINS, parts)]


def placed(objects: Iterable[StoredSize], tiers: Sequence[str]) -> list[Write]:
    """These objects, and no others, live on the tiers.

    Up to MAX_OBJECTS of a tier each is a node. Beyond, the keys of that tier are cut at their last "/" until few enough
    are left; each stands for all objects below it, with their number and bytes.

    Args:
        objects: Every object, once.
        tiers: Every tier, those without objects included.

    Raises:
        GraphValueError: An object lives on a tier that is not among them.
    """
    by_tier: dict[str, list[StoredSize]] = {tier: [] for tier in tiers}
    for each in objects:
        if each.tier not in by_tier:
            raise GraphValueError(f"{each.key} is on tier {each.tier!r}: expected one of {', '.join(by_tier)}")
        by_tier[each.tier].append(each)
    writes: list[Write] = []
    for tier, there in by_tier.items():
        node = tier_node(tier)
        parts: list[tuple[NodeId, dict[str, Property]]] = [
            (NodeId(Label.STORED_OBJECT, _key(key)), {"objects": count, "bytes": size})
            for key, (count, size) in _grouped(there).items()
        ]
        writes += [node, *_exactly(node.id, EdgeType.HOLDS, parts)]
    return writes


def decided(decision: str, *, about: Node, outcome: str, reason: str, at: datetime) -> list[Write]:
    """Something was decided about a node.

    Args:
        decision: A name that no other decision has.
        about: What it is about: one of the nodes of this module, or any node with all its properties.
        outcome: What was decided.
        reason: Why.
        at: When, with a time zone.
    """
    facts = {"outcome": _text(outcome), "reason": _text(reason), "at": _moment(at)}
    node = Node(NodeId(Label.DECISION, _key(decision)), facts)
    return [node, about, Edge(EdgeType.CONCERNS, node.id, about.id)]


def _exactly(source: NodeId, kind: EdgeType, parts: Sequence[tuple[NodeId, Mapping[str, Property]]]) -> list[Write]:
    edges = tuple(Edge(kind, source, part, facts) for part, facts in parts)
    return [*(Node(part) for part, _ in parts), ReplaceEdges(source, kind, edges, prune=True)]


def _grouped(objects: Sequence[StoredSize]) -> dict[str, tuple[int, int]]:
    """Number and bytes by key, or by as much of the keys as leaves at most MAX_OBJECTS."""
    segments = [each.key.split("/") for each in objects]
    depth = max(map(len, segments), default=0)
    while depth >= 0:
        sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for each, parts in zip(objects, segments, strict=True):
            key = each.key if len(parts) <= depth else "/".join(parts[:depth]) + "/"
            sums[key][0] += 1
            sums[key][1] += each.bytes
        if len(sums) <= MAX_OBJECTS:
            break
        depth -= 1
    return {key: (count, size) for key, (count, size) in sums.items()}


def _moment(at: datetime) -> str:
    if at.tzinfo is None:
        raise GraphValueError(f"{at!r} has no time zone: use datetime.now(UTC)")
    return at.isoformat()


def _text(text: str) -> str:
    """Names of files may hold bytes that are no text; a reader sees them escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def _key(text: str) -> str:
    """The text where it can be a key, else its beginning and its digest."""
    plain = _text(text)
    if plain == text and len(text) <= MAX_KEY_CHARACTERS:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{plain[: MAX_KEY_CHARACTERS - len(digest) - 1]}~{digest}"
