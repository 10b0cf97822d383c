"""The parts of the benchmark of the experts: one module each, with `figures(data, runs)`.

Belongs here: what is measured and beside what. Does not: the form of the report (`report`).
"""
