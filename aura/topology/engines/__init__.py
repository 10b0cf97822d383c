"""The engines: programs that turn an input into bars, one a module, each the best one in some regime.

Belongs here: pure computation, from arrays to bars. Does not: choosing an engine (`aura.topology.dispatch`), caps and
processes (`aura.topology.process`).
"""
