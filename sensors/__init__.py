"""What to recompute when something outside the graph changes: a pure decision from `aura`, a thin Dagster shell.

Belongs here: sensor definitions whose target is passed in. Does not: the assets themselves.
"""
