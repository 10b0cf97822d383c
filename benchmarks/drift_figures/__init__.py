"""The parts of the benchmark of drift: what is planted, how trials are counted.

Belongs here: clouds and networks with a drift of known strength, rates with their intervals. Does not: the tests
themselves (`aura.topology.drift`), the form of the report (`report`).
"""
