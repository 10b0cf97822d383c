"""What a move costs and what a read is worth, for objects of any size."""

from __future__ import annotations

import numpy as np

from aura.tiers.online.costs import CostTable, TierCosts
from aura.tiers.records import Tier


def test_a_read_of_a_small_object_is_worth_as_much_more_as_its_move_is_dearer_in_reads():
    tiers = [
        TierCosts(Tier.L1, 1 << 20, 1e-7, 0.0, 2e-6, 2e-11),
        TierCosts(Tier.L2, 1 << 20, 7e-7, 8e-11, 8e-6, 4e-11),
        TierCosts(Tier.L3, None, 1.5e-6, 6e-11, 0.0, 0.0),
    ]
    table = CostTable(tiers, 16384)
    sizes = np.array([1, 16384, 1 << 16])
    saved = np.stack([table.get(2, sizes) - table.get(tier, sizes) for tier in (0, 1)])
    worth = table.worth(sizes)
    moves = [float(table.move(2, tier, sizes[:1])[0]) for tier in (0, 1)]
    np.testing.assert_allclose(table.prices(16384)[0] * worth[0, 0], moves[0])
    assert (table.prices(16384) * worth[:, 0] >= 0.999 * np.array(moves)).all()
    np.testing.assert_allclose(worth[:, 1], saved[:, 1])
    assert saved[1, 2] < 0
    np.testing.assert_allclose(worth[1, 2], saved[1, 2])
    assert (worth >= saved - 1e-18).all()
