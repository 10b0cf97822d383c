"""Which items of a directory tree are about the same thing.

Belongs here: the group of files that share a stem, and which groups are worth their name. Does not: the rows of tables
that name files (`aura.corpus.named_files`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from aura.corpus.kinds import file_uri, kind_of
from aura.corpus.rows import ManifestRow


def stem_group(uri: str) -> str:
    """The group that a file belongs to by its name: its uri without the suffix."""
    return str(PurePosixPath(uri).with_suffix(""))


def settle_groups(rows: Sequence[ManifestRow]) -> Iterable[ManifestRow]:
    """The rows with every group that has no partners in it taken away.

    Files that share a stem are partners if usable items have come from files of at least two kinds, so that two
    photographs of one name are not; the items of one row of a table ("file#row") if there are at least two of them.
    """
    members: dict[str, list[ManifestRow]] = defaultdict(list)
    for row in rows:
        if row.group is not None and row.reason is None:
            members[row.group].append(row)
    together = {group for group, items in members.items() if _are_partners(group, items)}
    return (row if row.group is None or row.group in together else replace(row, group=None) for row in rows)


def _are_partners(group: str, items: list[ManifestRow]) -> bool:
    if group != file_uri(group):
        return len(items) > 1
    return len({kind_of(item.uri) for item in items}) > 1
