"""The choice of a policy: each one places a sample of the objects in miniature, and what they pay is compared.

The sample is by a hash of the id, with that share of every tier's capacity (C. Waldspurger, N. Park, A. Garthwaite,
I. Ahmad, "Efficient MRC construction with SHARDS", FAST 2015). A shadow pays for gets and for its moves, with the costs
and in the batches of the store, so that what is compared is what is wanted of the store.
"""

from __future__ import annotations

import numpy as np

from aura.tiers.online.costs import CostTable, Rows
from aura.tiers.online.placing import Offers, Placement, offers
from aura.tiers.online.policies import POLICIES, Knowledge, Recency
from aura.tiers.online.reuse import sampled_below

SHADOW_OBJECTS = 512
"""Objects that the fast tiers of a shadow hold; fewer only where the store's hold fewer."""
BATCHES = 512
"""Latest batches that are compared."""
STANDARD_ERRORS = 2.0
"""Difference in seconds, in its standard errors, from which another policy is followed."""


class Shadows:
    """One placement for each policy, over a sample of the objects.

    Attributes:
        share: Chance of an object to be in the sample.
        following: Position of the policy that is followed, in `POLICIES`.
        rows: int64[m], the sample.
    """

    def __init__(self, knowledge: Knowledge, costs: CostTable, share: float) -> None:
        self.share = share
        self.following = 0
        self._below = sampled_below(share)
        self._history = knowledge.history
        self._costs = costs
        capacities = np.maximum(1, (costs.capacities * share).astype(np.int64))
        self._placements = [Placement(policy(knowledge), knowledge.history, costs, capacities) for policy in POLICIES]
        self._paid = np.zeros((BATCHES, len(POLICIES)))
        self._batches = 0
        self._since = 0
        self.rows = np.zeros(0, dtype=np.int64)

    def sampled(self, rows: Rows) -> Rows:
        """Those of the rows that are in the sample."""
        return rows if self.share >= 1 else rows[self._history.hashes(rows) < self._below]

    def add(self, rows: Rows) -> None:
        """Objects are new."""
        self.rows = np.concatenate([self.rows, self.sampled(rows)])

    def remove(self, rows: Rows) -> None:
        """Objects are gone, while their rows are still known."""
        sampled = self.sampled(rows)
        self.rows = self.rows[~np.isin(self.rows, sampled)]
        self.drop(sampled)

    def drop(self, rows: Rows) -> None:
        """Objects change their sizes, which they have until this returns: they fall to L3."""
        for each in self._placements:
            each.drop(rows)

    def before(self, reads: Rows) -> None:
        """Charge each shadow for a batch of reads, as it is placed; before they are folded."""
        sampled = self.sampled(reads)
        sizes = self._history.size[sampled]
        slot = self._paid[self._batches % BATCHES]
        for position, each in enumerate(self._placements):
            each.lengthen()
            if not each.policy.idle:
                slot[position] = self._costs.get(each.tier[sampled], sizes).sum()

    def after(self, touched: Rows, counts: Rows, offered: Offers) -> None:
        """Let each shadow move after the batch, and charge it for that.

        Args:
            touched: int64[n], who was read, ascending.
            counts: int64[n], how often.
            offered: What the tiers offer them by what most policies expect.
        """
        if self.share < 1:
            mine = self._history.hashes(touched) < self._below
            touched, counts = touched[mine], counts[mine]
            offered = offered.taken(self._history.hashes(offered.rows) < self._below)
        slot = self._paid[self._batches % BATCHES]
        for position, each in enumerate(self._placements):
            if each.policy.idle:
                slot[position] = slot[0]
                continue
            each.policy.read(touched, counts)
            own = offered if each.policy.shares else offers(each.policy, self._history, self._costs, offered.rows)
            slot[position] += each.plan(own).seconds
        self._batches += 1

    def choose(self) -> bool:
        """Follow another policy where one did better beyond chance; whether it changed."""
        seen = self._paid[: min(self._batches, BATCHES)]
        saved = seen[:, [self.following]] - seen
        errors = np.sqrt(np.square(saved).sum(axis=0))
        total = saved.sum(axis=0)
        better = total > STANDARD_ERRORS * np.maximum(errors, 1e-12)
        if not better.any():
            return False
        self.following = int(np.where(better, total, -np.inf).argmax())
        return True

    def policy(self, knowledge: Knowledge) -> Recency:
        """A new policy of the kind that is followed."""
        return POLICIES[self.following](knowledge)
