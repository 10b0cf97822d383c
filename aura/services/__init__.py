"""Servers that AURA talks to: their start and stop without containers, their health by a real operation.

Belongs here: service recipes, the supervisor, health checks with remedies.
Does not: the clients that use the servers (each capability keeps its own adapters).
"""
