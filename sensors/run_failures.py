"""A run that fails is an alert."""

from __future__ import annotations

import dagster as dg

from aura.events.event import new_event
from resources.events import Events

TOPIC = "alerts"
KIND = "alerts.raised"


@dg.run_failure_sensor(
    name="run_failures",
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    monitor_all_code_locations=True,
    description=f"A run that fails is published to {TOPIC}, once.",
)
def run_failures(context: dg.RunFailureSensorContext, events: dg.ResourceParam[Events]) -> None:
    """Publish the failure; its id is the run's, so that a tick that is repeated publishes it once."""
    run = context.dagster_run
    failures = context.get_step_failure_events()
    error = failures[0].step_failure_data.error if failures else None
    while error is not None and error.cause is not None:
        error = error.cause
    what = ", ".join(sorted({str(failure.step_key) for failure in failures})) or f"the run of {run.job_name}"
    partition = run.tags.get("dagster/partition")
    event = new_event(
        KIND,
        {
            "alert": f"run/{run.run_id}",
            "severity": "critical",
            "failed": f"{what} failed" + (f" in {partition}" if partition else ""),
            "run_id": run.run_id,
            "asset": str(failures[0].step_key) if failures else None,
            "partition": partition,
            "error": (error.message.strip() if error else context.failure_event.message)[:10_000],
            "remedy": "Read the run's log in Dagster; mend what the error names and re-execute the run.",
        },
        source="dagster",
        key=f"run/{run.run_id}",
        id=f"run-failure/{run.run_id}",
    )
    with events.open() as log:
        log.publish(TOPIC, [event])
