"""Dagster resources: described configuration, set-up and clean-up; each hands the assets a domain object of `aura`.

Belongs here: thin `ConfigurableResource` classes. Does not: anything that could be tested without Dagster.
"""
