"""What to do when the other side is slow or gone: deadlines, retries, circuit breakers, outboxes.

Belongs here: the mechanisms, with their clock passed in. Does not: which server they guard (each adapter says so).
Ground floor: imports no other capability.
"""
