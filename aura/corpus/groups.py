"""Which items of a directory tree are about the same thing.

Belongs here: the group of files that share a stem, and which groups are worth their name. Does not: the rows of tables
that name files (`aura.corpus.named_files`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from aura.corpus.kinds import file_uri, kind_of
from aura.corpus.rows import ManifestRow


def stem_group(uri: str) -> str:
    """The group that a file belongs to by its name: its uri without the suffix."""
    return str(PurePosixPath(uri).with_suffix(""))


def settle_groups(rows: Sequence[ManifestRow]) -> Iterator[ManifestRow]:
    """The rows with every group that has no partners in it taken away.

    Files that share a stem are partners if usable items have come from files of at least two kinds, so that two
    photographs of one name are not; the items of one row of a table ("file#row") if there are at least two of them. The
    items of a video without partners are a group by themselves, called by its uri.
    """
    members: dict[str, list[ManifestRow]] = defaultdict(list)
    for row in rows:
        if row.group is not None and row.reason is None:
            members[row.group].append(row)
    together = {group for group, items in members.items() if _are_partners(group, items)}
    items_of_file = Counter(file_uri(row.uri) for items in members.values() for row in items)
    for row in rows:
        if row.group is None or row.group in together:
            yield row
        else:
            is_video = kind_of(row.uri) == "video" and items_of_file[file_uri(row.uri)] > 1
            yield replace(row, group=file_uri(row.uri) if is_video else None)


def _are_partners(group: str, items: list[ManifestRow]) -> bool:
    if group != file_uri(group):
        return len(items) > 1
    return len({kind_of(item.uri) for item in items}) > 1
