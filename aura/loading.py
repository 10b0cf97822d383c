"""From a notebook or a script to what the assets have made: `aura.load`, `aura.published` and `aura.find`.

Belongs here: finding the home, opening its store for as long as the read takes. Does not: making values, drawing them.

`import aura` runs this module, so everything that costs time to import is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from aura.search.finding import Found
    from aura.search.places import Within
    from aura.settings import Settings
    from aura.tiers.catalog import Catalog
    from aura.tiers.values import StoredValue


class PartitionNeededError(LookupError):
    """Several partitions of the value are published, and none was named."""


def load(name: str, partition: str | None = None) -> StoredValue:
    """Load the value of an asset, as the type that the asset returns.

    The value has memory of its own and stays usable when other processes replace or move what is in the store. Its
    arrays are read-only: copy them before changing them.

    Args:
        name: Name of the asset, such as "text_embeddings".
        partition: Name of the source; may be left out where the asset has no partitions or only one is published.

    Raises:
        SettingsError: A setting is wrong.
        ValueNotPublishedError: There is nothing of this name and partition; the message says what there is.
        PartitionNeededError: Several partitions are published and none was named.
        StoreError: The store cannot be opened or read.
    """
    with open_catalog() as catalog:
        return catalog.load(name, _only_partition(catalog, name) if partition is None else partition)


def published() -> pa.Table:
    """List what can be loaded.

    Returns:
        Columns name and partition (string, null without partitions), type (string, the class), rows and bytes (int64)
        and created_at (timestamp in UTC); in order of name and partition. `published().to_pandas()` is a data frame.

    Raises:
        SettingsError: A setting is wrong.
        ValueNotPublishedError: Nothing was ever published in this home.
        StoreError: The store cannot be opened or read.
    """
    from datetime import datetime

    import pyarrow as pa

    schema = pa.schema(
        [
            ("name", pa.string()),
            ("partition", pa.string()),
            ("type", pa.string()),
            ("rows", pa.int64()),
            ("bytes", pa.int64()),
            ("created_at", pa.timestamp("us", tz="UTC")),
        ]
    )
    with open_catalog() as catalog:
        rows = [
            {
                "name": found.name,
                "partition": found.partition,
                "type": found.type_name.partition(":")[2],
                "rows": found.rows,
                "bytes": found.bytes,
                "created_at": datetime.fromisoformat(found.created_at),
            }
            for found in catalog.published()
        ]
    return pa.Table.from_pylist(rows, schema=schema)


def find(query: str | Path, *, within: Within | None = None, source: str | None = None, count: int = 10) -> Found:
    """Find the items nearest to a text, or to the text, image or sound in a file.

    In a notebook the result shows itself with previews. Models and tables stay in memory for the next question.

    Args:
        query: A sentence, or the path of a file.
        within: "texts", "images", "sounds", or "fused" for things of several modalities; None for items like the query.
        source: Name of the source; None for all.
        count: How many.

    Raises:
        SettingsError: A setting is wrong.
        ValueNotPublishedError: Nothing was ever published in this home.
        SearchError: Nothing of the kind is embedded, or the query cannot be read or encoded.
        StoreError: The store cannot be opened or read.
    """
    from aura.search.finding import find_published
    from aura.settings import load_settings

    with open_catalog() as catalog:
        return find_published(catalog, load_settings(), query, within=within, source=source, count=count)


@contextmanager
def open_catalog(settings: Settings | None = None) -> Iterator[Catalog]:
    """The catalog of a home, by default the configured one, with its store open for a short read.

    Without an owner this process owns the store meanwhile, with no fast tiers: filling them takes longer than a read.
    """
    from aura.settings import load_settings
    from aura.tiers.budgets import TierBudgets
    from aura.tiers.catalog import Catalog
    from aura.tiers.published import ValueNotPublishedError
    from aura.tiers.store import open_store

    settings = settings or load_settings()
    if not settings.store_directory.is_dir():
        raise ValueNotPublishedError(
            f"nothing is published in {settings.home}, which has no store: run `make demo`, or set AURA_HOME to a home "
            "whose assets are materialized"
        )
    none = TierBudgets(device_bytes=0, process_bytes=0, arena_bytes=0)
    with open_store(settings.store_directory, budgets=none, timeout_seconds=settings.tiers.timeout_seconds) as store:
        yield Catalog(store)


def _only_partition(catalog: Catalog, name: str) -> str | None:
    """The partition that there is; None where there are no partitions, and for a name that is not published."""
    partitions = [found.partition for found in catalog.published() if found.name == name]
    if len(partitions) > 1 and None not in partitions:
        raise PartitionNeededError(
            f"value {name!r} is published in the partitions {', '.join(map(str, partitions))}: name one of them, as in "
            f"load({name!r}, partition={partitions[0]!r})"
        )
    return partitions[0] if len(partitions) == 1 else None
