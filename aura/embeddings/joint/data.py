"""The items that a joint model learns from: contents of several modalities, and what they have in common.

Belongs here: which items of a source belong together, reading them within bounds. Does not: decoding
(`aura.embeddings.joint.features`), who is trained on (`aura.embeddings.joint.split`).
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

from aura.corpus.errors import ItemChangedError
from aura.corpus.manifest import OK
from aura.corpus.rows import MODALITIES, content_id
from aura.embeddings.joint.errors import NotTrainableError

PairedBy = Literal["group", "label"]

MIN_ITEMS = 24
"""Items of a modality, of which some are held out: fewer teach nothing about it."""

MIN_GROUPS = 16
"""Groups of at least two modalities from which on groups decide what belongs together; with fewer, labels do."""

MAX_ITEMS = 20_000
"""Items of one modality that are read; with more, those of the lowest hash, so that the choice is stable."""

MAX_BYTES = 1 << 30
"""Bytes of one modality that are read."""

_COLUMNS = ("item_id", "uri", "modality", "label", "sublabel", "group", "text", "status")


@dataclass(frozen=True)
class JointItem:
    """One item.

    Attributes:
        item_id: Address of the content.
        content: The text, or the bytes of an image or sound.
        concept: What it is about: items of one concept belong together.
        speaker: Who speaks, or made it; None where that is unknown.
    """

    item_id: str
    content: str | bytes
    concept: str
    speaker: str | None = None


@dataclass(frozen=True, eq=False)
class JointData:
    """Everything that a training sees.

    Attributes:
        items: Per modality, sorted by item_id, each id once.
        paired_by: "label" where a concept is a class with many items, "group" where it is one thing seen in several
            ways, of which all items are held out together.
        left_out: How many usable items were left out, by plain reason.
    """

    items: Mapping[str, tuple[JointItem, ...]]
    paired_by: PairedBy = "label"
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.items) - set(MODALITIES))
        if unknown:
            raise ValueError(f"modality {unknown[0]!r} is unknown; give some of {', '.join(MODALITIES)}")
        ordered = {}
        for modality in MODALITIES:
            unique = {item.item_id: item for item in reversed(self.items.get(modality, ()))}
            if unique:
                ordered[modality] = tuple(unique[item_id] for item_id in sorted(unique))
        object.__setattr__(self, "items", ordered)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those with items, in the order text, image, audio."""
        return tuple(self.items)

    def concepts(self) -> tuple[str, ...]:
        """All concepts, sorted."""
        return tuple(sorted({item.concept for items in self.items.values() for item in items}))


@dataclass(frozen=True)
class _Row:
    item_id: str
    uri: str
    modality: str
    label: str | None
    sublabel: str | None
    group: str | None
    text: str | None


def joint_data(
    manifest: pa.Table,
    read: Callable[[str, str], bytes],
    *,
    max_items: int = MAX_ITEMS,
    max_bytes: int = MAX_BYTES,
    progress: Callable[[int, int], None] | None = None,
) -> JointData:
    """Find the items of a source that belong together, and read them.

    Items of one group belong together where there are enough groups of several modalities; else items of one label
    do, and a label without a text is its own text.

    Args:
        manifest: Columns item_id, uri, modality, label, sublabel, group, text and status.
        read: From a uri and an item_id to the content of an image or sound.
        max_items: Most items of one modality.
        max_bytes: Most bytes of one modality.
        progress: Called with (images and sounds read, images and sounds in all).

    Returns:
        The data; what was left out is counted in it.

    Raises:
        NotTrainableError: No two modalities have anything in common.
        ValueError: A column is missing.
    """
    rows = _usable(manifest)
    paired_by, concepts = _concepts(rows)
    left_out: Counter[str] = Counter()
    chosen: list[tuple[_Row, str]] = []
    for modality in MODALITIES:
        own = [row for row in rows if row.modality == modality]
        paired = [(row, concepts[row]) for row in own if row in concepts]
        left_out[f"{modality}: belongs to nothing of another modality"] += len(own) - len(paired)
        kept = sorted(paired, key=lambda entry: _hash(entry[0].item_id))[:max_items]
        left_out[f"{modality}: more than {max_items:,} items"] += len(paired) - len(kept)
        chosen += kept
    items = _read_items(chosen, read, max_bytes, left_out, progress)
    _leave_out_few(items, paired_by, left_out)
    if paired_by == "label":
        items["text"] += _names({concepts[row] for row in concepts}, {item.concept for item in items["text"]})
    return JointData(
        {modality: tuple(own) for modality, own in items.items()},
        paired_by,
        {reason: count for reason, count in left_out.items() if count},
    )


def _usable(manifest: pa.Table) -> list[_Row]:
    missing = [name for name in _COLUMNS if name not in manifest.column_names]
    if missing:
        raise ValueError(f"the manifest has no column {missing[0]!r}, only {manifest.column_names}")
    columns = {name: manifest[name].to_pylist() for name in _COLUMNS}
    statuses = columns.pop("status")
    rows = (_Row(**dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True))
    unique: dict[tuple[str, str], _Row] = {}
    for row, status in zip(rows, statuses, strict=True):
        if status == OK and row.modality in MODALITIES:
            unique.setdefault((row.modality, row.item_id), row)
    return list(unique.values())


def _concepts(rows: list[_Row]) -> tuple[PairedBy, dict[_Row, str]]:
    """What each row is about, for the rows that belong to something of another modality."""
    by_group = _modalities((row.group, row.modality) for row in rows)
    groups = {group for group, modalities in by_group.items() if len(modalities) > 1}
    if len(groups) >= MIN_GROUPS:
        return "group", {row: row.group for row in rows if row.group is not None and row.group in groups}
    by_label = _modalities((row.label, row.modality) for row in rows)
    # A label is a text by itself, so that one other modality is enough.
    labels = {label for label, modalities in by_label.items() if modalities != {"text"}}
    if len(labels) < 2:
        raise NotTrainableError(
            f"a joint model needs items of two modalities that belong together, at least {MIN_GROUPS} groups (such as "
            f"photo.jpg and photo.txt) or 2 labels of images or sounds; this source has {len(groups)} such groups and "
            f"{len(labels)} such labels"
        )
    return "label", {row: row.label for row in rows if row.label is not None and row.label in labels}


def _modalities(pairs: Iterable[tuple[str | None, str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for key, modality in pairs:
        if key is not None:
            found[key].add(modality)
    return found


def _read_items(
    chosen: list[tuple[_Row, str]],
    read: Callable[[str, str], bytes],
    max_bytes: int,
    left_out: Counter[str],
    progress: Callable[[int, int], None] | None,
) -> dict[str, list[JointItem]]:
    items: dict[str, list[JointItem]] = {modality: [] for modality in MODALITIES}
    sizes: Counter[str] = Counter()
    for done, (row, concept) in enumerate(chosen, start=1):
        content: str | bytes | None = row.text
        if row.modality != "text" and sizes[row.modality] < max_bytes:
            try:
                content = read(row.uri, row.item_id)
            except ItemChangedError:
                left_out[f"{row.modality}: changed since it was listed, or gone"] += 1
                continue
        if content is None:
            left_out[f"{row.modality}: more than {max_bytes:,} bytes in all"] += 1
            continue
        sizes[row.modality] += len(content)
        items[row.modality].append(
            JointItem(row.item_id, content, concept, row.sublabel if row.modality == "audio" else None)
        )
        if progress is not None:
            progress(done, len(chosen))
    return items


def _leave_out_few(items: dict[str, list[JointItem]], paired_by: PairedBy, left_out: Counter[str]) -> None:
    """Go on without a modality of which there is too little, where two others are left."""
    # Labels are texts, however few texts there are.
    enough = [
        modality
        for modality in MODALITIES
        if len(items[modality]) >= MIN_ITEMS or (modality == "text" and paired_by == "label")
    ]
    for modality in MODALITIES:
        if len(enough) > 1 and modality not in enough and items[modality]:
            left_out[f"{modality}: fewer than {MIN_ITEMS} items"] += len(items[modality])
            items[modality] = []


def _names(labels: set[str], with_texts: set[str]) -> list[JointItem]:
    return [JointItem(content_id(label.encode()), label, label) for label in sorted(labels - with_texts)]


def _hash(item_id: str) -> bytes:
    return hashlib.blake2b(item_id.encode(), digest_size=8).digest()
