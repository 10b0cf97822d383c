"""Crashes of the event log: a generator, an environment that kills, and a checker, each knowing nothing of the others.

The generator (`plan`, `producer`, `consumer`) publishes a planned sequence and notes what was acknowledged; the
environment (`environment`, `power`) starts the processes, kills them at random moments and starts them again; the
checker compares what was acknowledged with what the log and the effects hold. `bugs` holds mistakes that the checker
has to find.
"""
