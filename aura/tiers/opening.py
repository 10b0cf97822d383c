"""Opens the store that the settings name.

Belongs here: what the settings mean for the tiers. Does not: the tiers.
"""

from __future__ import annotations

from aura.settings import Settings
from aura.tiers.budgets import RedisAddress, TierBudgets
from aura.tiers.store import TieredStore, open_store


def budgets_of(settings: Settings) -> TierBudgets:
    """Bytes of each fast tier, and where L2 is."""
    tiers, redis = settings.tiers, settings.redis
    address = None
    if tiers.warm_pool == "redis" and redis.url is not None:
        password = redis.password.get_secret_value() if redis.password else None
        address = RedisAddress(redis.url, redis.user, password, redis.cluster, redis.timeout_seconds)
    return TierBudgets(
        device_bytes=int(tiers.device_bytes),
        process_bytes=int(tiers.process_bytes),
        arena_bytes=int(tiers.arena_bytes),
        warm_pool=address,
        background_bytes_per_second=int(tiers.background_bytes_per_second),
        online=tiers.online,
    )


def open_configured_store(settings: Settings) -> TieredStore:
    """Open the store under the home, as its owner or a client; errors as `open_store`."""
    return open_store(
        settings.store_directory, budgets=budgets_of(settings), timeout_seconds=settings.tiers.timeout_seconds
    )
