"""The answer to a device that is out of memory: the store gives its part back, and the work is tried again.

Belongs here: the retry. Does not: how a tier gives memory back (`TieredStore.relieve`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from aura.tiers.errors import TierAbsentError
from aura.tiers.records import Tier
from aura.tiers.store import TieredStore

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


def with_relief(store: TieredStore, work: Callable[[], Result], size: int = 0) -> Result:
    """Run some work that takes device memory; while it runs out, let L0 demote objects and give memory back.

    Args:
        store: The store; its owner may be another process that shares the device.
        work: What to run; it starts anew each time.
        size: Bytes that are wanted; L0 gives at least half of what it has each time.

    Returns:
        What the work returned.

    Raises:
        torch.OutOfMemoryError: L0 has nothing left to give.
    """
    import torch

    while True:
        try:
            return work()
        except torch.OutOfMemoryError:
            try:
                given = store.relieve(Tier.L0, size)
            except TierAbsentError:
                given = 0
            if not given:
                raise
            logger.warning("the device is out of memory: L0 gave %d bytes back, and the work is tried again", given)
        torch.cuda.empty_cache()
