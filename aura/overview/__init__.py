"""The state of a project as figures for people: what is fresh, what it cost, where it lives, what runs.

Belongs here: reading stores, records and servers without changing them, putting together what they say, formatting it
with its unit. Does not: drawing it (the dashboard, the terminal, the report), or computing anything new.
"""
