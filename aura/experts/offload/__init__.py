"""Experts of a mixture-of-experts model that live in the tiers: kept as objects, used where they are, fetched ahead.

Belongs here: expert weights in the store (`store`), the kernel that takes them from there (`kernel`), which of them are
in fast memory and when they are fetched (`residency`), what will be used next (`forecast`), inference (`runtime`), and
the commands (`cli`). Does not: the tiers themselves (`aura.tiers`), training (`aura.experts.language`).
"""
