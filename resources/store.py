"""The tiered store of this deployment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from pydantic import Field

from aura.settings import Settings, variable_of
from aura.tiers.budgets import RedisAddress, TierBudgets
from aura.tiers.opening import budgets_of
from aura.tiers.store import TieredStore, open_store


class StoreResource(dg.ConfigurableResource[TieredStore]):
    """Opens the store for one run: as its owner if nobody owns it, else as a client of the owner."""

    directory: str = Field(description="Directory of the store.")
    device_bytes: int = Field(description="L0: bytes of GPU memory, used only where CUDA is present.")
    process_bytes: int = Field(description="L1: bytes of live objects in the owner's process.")
    arena_bytes: int = Field(description="L2: bytes of the warm pool.")
    redis_url: str | None = Field(None, description="Redis server that L2 is in; none: shared memory.")
    redis_user: str | None = Field(None, description="ACL user of Redis.")
    redis_password: str | None = Field(None, description="Its password, by the name of its variable.")
    redis_cluster: bool = Field(default=False, description="The address is a node of a cluster.")
    redis_timeout_seconds: float = Field(0.5, description="Time-out of one call to Redis.")
    timeout_seconds: float = Field(description="Time-out of one call to the owner.")

    @classmethod
    def of(cls, settings: Settings) -> StoreResource:
        """The store under the home."""
        budgets = budgets_of(settings)
        pool = budgets.warm_pool
        return cls(
            directory=str(settings.store_directory),
            device_bytes=budgets.device_bytes,
            process_bytes=budgets.process_bytes,
            arena_bytes=budgets.arena_bytes,
            redis_url=pool and pool.url,
            redis_user=pool and pool.user,
            # By name, so that the UI, which shows a resource's configuration, does not show the secret.
            redis_password=dg.EnvVar(variable_of("redis.password")) if pool and pool.password else None,
            redis_cluster=settings.redis.cluster,
            redis_timeout_seconds=settings.redis.timeout_seconds,
            timeout_seconds=settings.tiers.timeout_seconds,
        )

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[TieredStore]:
        """Open for the run, close after it."""
        pool = self.redis_url and RedisAddress(
            self.redis_url, self.redis_user, self.redis_password, self.redis_cluster, self.redis_timeout_seconds
        )
        budgets = TierBudgets(
            device_bytes=self.device_bytes,
            process_bytes=self.process_bytes,
            arena_bytes=self.arena_bytes,
            warm_pool=pool or None,
        )
        with open_store(Path(self.directory), budgets=budgets, timeout_seconds=self.timeout_seconds) as store:
            yield store
