"""Signals of a live machine and the component models that watch them.

Belongs here: collectors, statistics, anomaly scores, the component registry.
Does not: the cost of one materialization (see `aura.measure`).
"""
