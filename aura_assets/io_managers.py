"""How values travel between assets: typed, through the tiered store, never pickled."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from aura.tiers.catalog import Catalog
from aura.tiers.published import Draft, Published
from aura.tiers.store import TieredStore
from aura_assets.metadata import figure

INPUT = "input "
"""What a key of the provenance begins with that names an input; its value is the version that was read."""


def input_key(name: str, partition: str | None = None) -> str:
    """Key of the provenance for an input, or for one partition of an input of which several are read."""
    return INPUT + (name if partition is None else f"{name}[{partition}]")


@dataclass(frozen=True)
class Publication:
    """A value that passed its checks.

    Attributes:
        draft: The value, encoded.
        provenance: What it was made from.
        succeeded: Called with its record once the value is durable; gives further metadata.
        failed: Called when it could not be published, before the error goes on.
    """

    draft: Draft
    provenance: Mapping[str, str]
    succeeded: Callable[[Published], Mapping[str, Any]]
    failed: Callable[[], object]


class CatalogIOManager(dg.IOManager):
    """Publishes an output under its asset's name and partition, and loads an input as the type that was published."""

    def __init__(self, store: TieredStore) -> None:
        self.store = store
        # What a step computes on is what was loaded here, whatever another run publishes in the meantime.
        self._loaded: dict[str, str] = {}

    def handle_output(self, context: dg.OutputContext, obj: Publication) -> None:
        """Write the blocks, verify them, flip the pointer; only then is it recorded as made."""
        started = time.perf_counter()
        try:
            published = Catalog(self.store).publish(
                context.asset_key.to_user_string(),
                obj.draft,
                partition=context.asset_partition_key if context.has_asset_partitions else None,
                provenance={**obj.provenance, **self._versions_read(obj.provenance)},
            )
        except Exception:
            obj.failed()
            raise
        seconds = time.perf_counter() - started
        context.add_output_metadata(
            {
                "store_seconds": figure(seconds),
                "bytes": published.bytes,
                "blocks": len(published.keys),
                **obj.succeeded(published),
            }
        )

    def load_input(self, context: dg.InputContext) -> object:
        """Load what is published; an error says what exists and how to make the missing value.

        Of an input with several partitions those that are published, by their names, at least one.
        """
        name = context.asset_key.to_user_string()
        partitions = context.asset_partition_keys if context.has_asset_partitions else (None,)
        if len(partitions) == 1:
            return self._load(name, partitions[0], input_key(name))
        catalog = Catalog(self.store)
        there = [partition for partition in partitions if catalog.find(name, partition)] or partitions[:1]
        return {partition: self._load(name, partition, input_key(name, partition)) for partition in there}

    def _load(self, name: str, partition: str | None, key: str) -> object:
        value, published = Catalog(self.store).load_published(name, partition)
        self._loaded[key] = published.version
        return value

    def _versions_read(self, provenance: Mapping[str, str]) -> Mapping[str, str]:
        return {name: version for name, version in self._loaded.items() if name in provenance}


@dg.io_manager(required_resource_keys={"store"}, description=CatalogIOManager.__doc__)
def catalog_io_manager(context: dg.InitResourceContext) -> CatalogIOManager:
    """The IO manager on the run's store.

    By key, since a resource that is nested in another one is set up a second time: the steps would then talk through a
    socket to the store that their own process has opened for the IO manager.
    """
    return CatalogIOManager(context.resources.store)
