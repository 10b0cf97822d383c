"""The event log: topics, offsets, consumer groups, schemas, projections.

Belongs here: the port in the words of Kafka, its adapters, event schemas, read models built from the log.
Does not: what is recomputed when an event arrives (see the `sensors` package). Ground floor: imports no other
capability.
"""
