"""The online layer: from the ids that were read, batch after batch, to the moves that pay for themselves.

Belongs here: what reads teach about each object, the policies that rank objects by it, their comparison on a sample of
keys, the planning of moves by measured costs, and the replay of a trace through all of it. Does not: threads, clocks,
files, or carrying out a move; the owner of a store does that. Does not either: the exact simulation of a policy access
by access (`aura.tiers.replay`), or a placement of all objects at once (`aura.tiers.planning.plan`).
"""
