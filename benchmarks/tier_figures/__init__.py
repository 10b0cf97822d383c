"""The figures of the tiered store, one module a subject.

Each module has `figures(data, runs)`: `data` is a directory with recorded access traces or None, `runs` how often what
varies from run to run is measured. Belongs here: measuring. Does not: the report's form (`report`).
"""
