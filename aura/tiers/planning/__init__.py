"""What the tiers cost on this machine, and where the objects of a store should live.

Belongs here: the measured profile, the prediction of a replay, expected accesses, the placement with its bound, plots
and checks of both. Does not: the store (`aura.tiers`), and what happens between two plans (`aura.tiers.online`).
"""
