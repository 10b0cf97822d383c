"""How often drift is found where there is none, and how much of it is needed to be found: both tests side by side.

    python benchmarks/drift.py [--trials N] [--power-trials N] [--json]

Rates are shares of trials, `each run` is their exact binomial interval of 95 % (Clopper and Pearson, 1934). Without
drift a row holds where the interval contains the nominal rate. What is planted is described in `drift_figures.clouds`
(embeddings) and `drift_figures.webs` (networks).
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

from drift_figures import clouds, webs
from drift_figures.trials import POWER_LEVEL, PValues, calibration, p_values, power, rates
from report import Figure, as_json, figure, table, tell

from aura.topology.drift.report import DriftReport

UNCHANGED: Mapping[str, Callable[[int], DriftReport]] = {
    "embeddings": clouds.no_drift,
    "networks of messages": webs.no_drift_in_messages,
    "networks of correlations": webs.no_drift_in_signals,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=500, help="without drift, of each kind")
    parser.add_argument("--power-trials", type=int, default=60, help="at each strength of each drift")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    found = unchanged(chosen.trials) + wandering(chosen.power_trials) + planted(chosen.power_trials)
    if chosen.json:
        as_json("drift", found)
    else:
        table(found)


def unchanged(trials: int) -> list[Figure]:
    """Rows about false alarms, and what a decision costs."""
    rows: list[Figure] = []
    for name, trial in UNCHANGED.items():
        tell(f"{trials} trials without drift, {name}")
        seconds: list[float] = []
        rows += calibration(name, _timed(trial, range(trials), seconds))
        rows.append(figure(f"a decision about {name}", [statistics.median(seconds)], "s CPU"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [*rows, figure("memory of the process", [peak], "MiB")]


def wandering(trials: int) -> list[Figure]:
    """Rows about windows that depend on each other: alarms without drift, and how often the report warns."""
    rows: list[Figure] = []
    for windows in webs.WANDERING:
        tell(f"{trials} trials of a coupling that wanders for {windows:g} windows")
        reports = [webs.wandering_signals(windows, seed) for seed in range(trials)]
        warned = [not report.exchangeable for report in reports]
        name = f"no drift, a coupling that wanders for {windows:g} windows"
        rows += power(name, p_values(reports))
        rows += rates(f"{name}, {{}}, at {POWER_LEVEL:g}", {"warnings of the report": sum(warned)}, trials)
    return rows


def planted(trials: int) -> list[Figure]:
    """Rows about power: every drift at every strength."""
    rows: list[Figure] = []
    for module in (clouds, webs):
        for name, strengths in module.STRENGTHS.items():
            for strength in strengths:
                tell(f"{trials} trials of {name}: {strength:g}")
                reports = (module.planted(name, strength, seed) for seed in range(trials))
                rows += power(f"{name}: {strength:g}", p_values(reports))
    return rows


def _timed(trial: Callable[[int], DriftReport], seeds: Sequence[int], seconds: list[float]) -> list[PValues]:
    reports = []
    for seed in seeds:
        start = time.process_time()
        reports.append(trial(seed))
        seconds.append(time.process_time() - start)
    return p_values(reports)


if __name__ == "__main__":
    main()
