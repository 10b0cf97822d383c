"""The asset graph: one module per group, and the one function that assembles the definitions.

Belongs here: assets, checks, partitions, automation, tags, the IO manager. Does not: algorithms (see `aura`).
"""
