"""The tiered store of this deployment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from pydantic import Field

from aura.settings import Settings
from aura.tiers.store import TierBudgets, TieredStore, open_store


class StoreResource(dg.ConfigurableResource[TieredStore]):
    """Opens the store for one run: as its owner if nobody owns it, else as a client of the owner."""

    directory: str = Field(description="Directory of the store.")
    device_bytes: int = Field(description="L0: bytes of GPU memory, used only where CUDA is present.")
    process_bytes: int = Field(description="L1: bytes of live objects in the owner's process.")
    arena_bytes: int = Field(description="L2: bytes of the shared arena.")
    timeout_seconds: float = Field(description="Time-out of one call to the owner.")

    @classmethod
    def of(cls, settings: Settings) -> StoreResource:
        """The store under the home."""
        return cls(
            directory=str(settings.store_directory),
            device_bytes=int(settings.tiers.device_bytes),
            process_bytes=int(settings.tiers.process_bytes),
            arena_bytes=int(settings.tiers.arena_bytes),
            timeout_seconds=settings.tiers.timeout_seconds,
        )

    def open(self) -> TieredStore:
        """Open the store; whoever calls closes it."""
        budgets = TierBudgets(
            device_bytes=self.device_bytes, process_bytes=self.process_bytes, arena_bytes=self.arena_bytes
        )
        return open_store(Path(self.directory), budgets=budgets, timeout_seconds=self.timeout_seconds)

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[TieredStore]:
        """Open for the run, close after it."""
        with self.open() as store:
            yield store
