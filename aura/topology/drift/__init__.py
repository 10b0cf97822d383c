"""Drift: do the current values come from the distribution that the reference came from, with a known error rate?

Two tests answer on the same two samples, so that a reader sees what topology adds: one on the distances between the
persistence diagrams of blocks, one on the distances between the values themselves. Both are energy tests with a
permutation p-value, and the false alarms of the whole decision keep to a budget.

Belongs here: samples, the test, the decision, its report, its picture. Does not: distances between diagrams
(`aura.topology.distances`), where vectors, signals or messages come from.
"""
