"""The graph store: nodes, edges, paths, impact sets.

Belongs here: the port with its typed operations and its adapters.
Does not: who influences whom in a machine (see `aura.telemetry`). Ground floor: imports no other capability.
"""
