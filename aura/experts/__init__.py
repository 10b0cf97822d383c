"""Mixtures of experts: the Switch layer, its training, its dense twin, routing tables.

Belongs here: routers, experts, losses, capacity and drop accounting, tables of who was sent where.
Does not: where expert weights live (see `aura.tiers`).
"""
