"""When an asset is recomputed without being asked.

The sources are listed by a schedule; inside the graph an asset follows when the *content* of what it reads has changed
(its data version), not whenever something upstream ran.
"""

from __future__ import annotations

from datetime import timedelta

import dagster as dg


def on_changed_input() -> dg.AutomationCondition:
    """Compute when an input's data version or the asset's code version changes, or when a new partition has its inputs.

    Waits for inputs that are being computed, and never runs while one is missing. A change that arrives in the tick
    after a request, or while the requested run is going on, asks for another run: no change is lost, and a run that
    finds nothing new reuses what is there. What changed before the first evaluation is left to whoever changed it.
    """
    started = dg.AutomationCondition.initial_evaluation()
    changed = (
        dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed())
        | dg.AutomationCondition.code_version_changed()
        | (dg.AutomationCondition.newly_missing() & ~started)
    )
    # `since` lets its reset win when both sides become true in the same tick: written this way round, the change wins.
    requested = (dg.AutomationCondition.newly_requested() | started).since(changed)
    return (
        ~requested
        & ~dg.AutomationCondition.any_deps_missing()
        & ~dg.AutomationCondition.any_deps_match(dg.AutomationCondition.will_be_requested())
        & ~dg.AutomationCondition.any_deps_in_progress()
        & ~dg.AutomationCondition.in_progress()
    ).with_label("an input changed")


def every_day(hour: int) -> dg.AutomationCondition:
    """Once a day at this hour, whatever is missing upstream: the machine is there even when a partition is not."""
    tick = dg.AutomationCondition.cron_tick_passed(f"0 {hour} * * *")
    handled = dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated()
    return (tick.since(handled) & ~dg.AutomationCondition.in_progress()).with_label(f"every day at {hour}:00")


FRESH_FOR_A_DAY = dg.FreshnessPolicy.time_window(fail_window=timedelta(days=2), warn_window=timedelta(days=1))
"""For what a schedule makes, at least once a day; what follows from it is recomputed only when it changes."""
