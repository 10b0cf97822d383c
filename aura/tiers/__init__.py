"""Where objects live: device memory, process memory, a shared arena, disk; and the planner that decides.

Belongs here: the tiered store, its codec, its owner and clients, the access log, measured tier costs, placement,
and the published values that everything else reads and writes.
Does not: what the objects mean. Ground floor: of the capabilities it imports only `aura.measure`.
"""
