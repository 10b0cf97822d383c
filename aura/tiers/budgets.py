"""What an owner may use: bytes of each fast tier, and the server of a warm pool.

Belongs here: the figures and their limits. Does not: where they come from (`opening`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where the warm pool is.

    Attributes:
        url: redis://, rediss:// or unix://.
        user: ACL user; None: the default user.
        password: Its password, kept out of every message.
        cluster: The address is a node of a cluster.
        timeout_seconds: Longest wait for a connection, and for an answer.
    """

    url: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    cluster: bool = False
    timeout_seconds: float = 0.5


@dataclass(frozen=True, slots=True)
class TierBudgets:
    """Bytes that each fast tier may take. Zero leaves the tier out. They count for the process that owns the store.

    Attributes:
        device_bytes: L0, taken at once from the device.
        process_bytes: L1, a limit.
        arena_bytes: L2, taken at once from shared memory, or a limit on what Redis holds.
        warm_pool: The Redis server that L2 is in; None: shared memory of this machine.
        background_bytes_per_second: Cap on what prefetching and the online layer move, so that they leave the memory's
            bandwidth to others; zero is no cap.
        online: The online layer moves objects as they are read.
    """

    device_bytes: int = 0
    process_bytes: int = 16 * MIB
    arena_bytes: int = 64 * MIB
    warm_pool: RedisAddress | None = None
    background_bytes_per_second: int = 1024 * MIB
    online: bool = False

    def __post_init__(self) -> None:
        for name in ("device_bytes", "process_bytes", "arena_bytes", "background_bytes_per_second"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; a budget is zero or more bytes")
