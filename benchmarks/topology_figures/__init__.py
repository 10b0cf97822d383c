"""The parts of the benchmark of the topology: one module each, with `figures(runs)`.

Belongs here: what is measured and beside what. Does not: the form of the report (`report`).
"""
