"""Access traces, replayed: through simulated eviction policies, against the offline optimum, and through a real store.

Belongs here: readers of trace formats, one policy a file behind `Policy`, bounds on what any policy can reach, the
comparison of both, its table and plot. Does not: the policy that serves live requests, or moving objects.
"""
