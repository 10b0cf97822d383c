"""Runs whose process died without a word.

A killed process leaves its run "started" and its slot in a pool taken, so that the next step that wants the GPU would
wait for ever. Dagster notices this for the runs that its code server started, as long as that server itself lives; not
for a run from a terminal, and not after the machine went down.
"""

from __future__ import annotations

import dagster as dg
import psutil

UNFINISHED = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]

CLOCK_SECONDS = 60.0
"""How far the clock may have been corrected since a run began without its process being taken for a later one."""


def release_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Fail the runs of this machine whose process is gone, and free the pool slots of all runs that are over.

    Does nothing where runs are launched on other machines. A run whose process is not known yet is left alone.

    Returns:
        The runs that were failed.
    """
    if not isinstance(instance.run_launcher, dg.DefaultRunLauncher):
        return []
    dead = [run for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)) if _is_dead(instance, run)]
    for run in dead:
        instance.report_run_failed(run, "The process of this run is gone: it was killed, or the machine went down.")
    slots = instance.event_log_storage
    for run_id in slots.get_concurrency_run_ids():
        holder = instance.get_run_by_id(run_id)
        if holder is None or holder.is_finished:
            slots.free_concurrency_slots_for_run(run_id)
    return [run.run_id for run in dead]


def _is_dead(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        event = entry.dagster_event
        # Processes of single steps come and go; the run's own says its number without a step.
        if event is not None and event.step_key is None and "pid" in event.engine_event_data.metadata:
            return not _is_running(int(str(event.engine_event_data.metadata["pid"].value)), entry.timestamp)
    return False


def _is_running(pid: int, then: float) -> bool:
    """Whether the process that had this number then is still there."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() < then + CLOCK_SECONDS
    except psutil.NoSuchProcess:
        return False


@dg.sensor(
    name="dead_runs",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="A run whose process was killed is failed, and what it held is free for the next one.",
)
def dead_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Look every minute; a failed run is retried by the instance as its configuration says."""
    released = release_dead_runs(context.instance)
    return dg.SkipReason(
        f"Failed, since their process is gone: {', '.join(released)}." if released else "All are alive."
    )
