"""What a piece of work cost: wall and CPU time, peak memory, joules with their source.

Belongs here: the one measuring context manager, energy counters, and the sinks that keep the figures.
Does not: the health of services (see `aura.services`). Ground floor: imports no other capability.
"""
