"""One run of the crash harness, from the first event to the verdict."""

from __future__ import annotations

from events_crash import checker
from events_crash.bugs import open_log
from events_crash.environment import Environment, Settings
from events_crash.plan import registry


def settings(tmp_path, place=None, **more):
    """Settings of a run in a folder of the test's own."""
    return Settings(place or str(tmp_path / "log.db"), f"crash-{tmp_path.name}", tmp_path / "run", **more)


def verdict(chosen):
    """What the checker says about a run that is over."""
    log = open_log(chosen.place, registry(chosen.topic, chosen.partitions))
    logged = checker.in_log(log, chosen.topic)
    log.close()
    effects = checker.in_effects(chosen.folder / "effects.db")
    return checker.check(checker.acknowledged_by_producer(chosen.folder), logged, effects)


def run(chosen, *, seed, kills, kind=None, events=1, broker=None, broker_kills=0):
    """Run with kills spread between those of the broker; returns the verdict and the environment's report."""
    with Environment(chosen, seed, broker) as environment:
        environment.wait_for(1)
        for number in range(kills):
            environment.kill_process(kind)
            if broker_kills and number % (kills // broker_kills) == 0:
                environment.kill_broker()
        environment.wait_for(events)
        environment.finish()
    return verdict(chosen), environment.report


def until_caught(caught, tmp_path, *, rounds=8):
    """Whether a bug is caught, with one seed after the other, each in a folder of its own.

    No single seed is sure to: whether a kill meets the moment that the bug leaves open is up to the machine.
    """
    for seed in range(rounds):
        folder = tmp_path / f"round-{seed}"
        folder.mkdir()
        if caught(folder, seed):
            return True
    return False


__all__ = ["Environment", "checker", "run", "settings", "until_caught", "verdict"]
