"""Decisions taken by several models: votes, consensus, the allocation workflow and its compensation.

Belongs here: liquid neural networks that vote, the saga, decision records.
Does not: the transport of events (see `aura.events`).
"""
