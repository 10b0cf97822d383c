"""What a decision about drift is allowed: its false alarms, its sizes, its randomness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aura.topology.drift.permutation import permutations_for

DistanceName = Literal["wasserstein", "bottleneck"]

LEAST_FALSE_ALARMS = 1e-4
"""Probability of a false alarm below which the permutations cost more than they tell: 199,999 of each test here."""


@dataclass(frozen=True)
class DriftSettings:
    """How drift is decided.

    Attributes:
        false_alarms: Probability that a decision raises an alarm although nothing has changed, at least
            `LEAST_FALSE_ALARMS`. Each of the two tests gets half of it (Bonferroni), so the whole decision keeps to it
            however the tests depend on each other.
        distance: Between diagrams: "wasserstein" (order 1, every bar counts) or "bottleneck" (the largest change).
        max_dimension: Highest dimension of homology.
        smallest_block: Least items of a block: fewer have no shape to speak of.
        largest_block: Most items of a block: up to about 100 a diagram takes milliseconds whatever the items are.
        blocks: Blocks that the smaller side should have before blocks grow.
        most_blocks: Most blocks of a side.
        most_nodes: Most nodes of a network whose shape is compared. Without structure the time grows without warning:
            up to 2 s a network at 200 nodes, 6 s at 300, and past 5 GB at 500.
        plain_items: Most items of a side in the plain test; the time grows with the square.
        seed: Of the order of items and of the permutations. The same seed on the same items is the same decision.
    """

    false_alarms: float = 0.01
    distance: DistanceName = "wasserstein"
    max_dimension: int = 1
    smallest_block: int = 20
    largest_block: int = 100
    blocks: int = 15
    most_blocks: int = 25
    most_nodes: int = 200
    plain_items: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not LEAST_FALSE_ALARMS <= self.false_alarms < 1:
            raise ValueError(
                f"false_alarms {self.false_alarms}: expected a probability from {LEAST_FALSE_ALARMS:g} to less than 1,"
                " such as 0.01"
            )
        if self.distance not in ("wasserstein", "bottleneck"):
            raise ValueError(f"distance {self.distance!r}: expected 'wasserstein' or 'bottleneck'")
        if not 0 <= self.max_dimension <= 2:
            raise ValueError(f"max_dimension {self.max_dimension}: expected 0 to 2")
        if not 3 <= self.smallest_block <= self.largest_block:
            raise ValueError(
                f"blocks of {self.smallest_block} to {self.largest_block} items: expected 3 <= least <= most"
            )
        if not 2 <= self.blocks <= self.most_blocks:
            raise ValueError(f"{self.blocks} to {self.most_blocks} blocks a side: expected 2 <= wanted <= most")
        if self.plain_items < 2:
            raise ValueError(f"plain_items {self.plain_items}: expected at least 2")
        if self.most_nodes < 2:
            raise ValueError(f"most_nodes {self.most_nodes}: expected at least 2")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed {self.seed}: expected a whole number from 0 to 2**63 - 1")

    @property
    def level(self) -> float:
        """Probability of a false alarm of each of the two tests."""
        return self.false_alarms / 2

    @property
    def permutations(self) -> int:
        """Permutations of each test, so many that the threshold is the tenth largest of them."""
        return permutations_for(self.level)
