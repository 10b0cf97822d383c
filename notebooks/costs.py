# %% [markdown]
# # What did it cost?
#
# Seconds, memory and joules of every materialization, out of MLflow. Joules are `measured` where this machine has a
# counter, `modelled` where a model was asked for, and `unavailable` otherwise; the three are never added up.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from aura.measure.history import CostHistory
from aura.overview.costs import outcome
from aura.settings import load_settings

settings = load_settings()
history = CostHistory(settings.tracking_uri, settings.measure.mlflow_experiment)
# A run that is recorded during the reading may come twice.
runs = sorted({run.mlflow_run_id: run for run in history.ended_since()}.values(), key=lambda run: run.started_at)
if not runs:
    raise LookupError(f"{settings.home} has no recorded materialization: run `make demo`, or name another home")
costs = pd.DataFrame(
    {
        "asset": run.asset,
        "partition": run.partition or "",
        "group": run.group,
        "outcome": outcome(run),
        "wall s": run.wall_seconds,
        "CPU s": run.cpu_seconds,
        "peak MiB": run.peak_memory_mib,
        "joules": run.joules,
        "energy": run.energy_source,
        "started": run.started_at,
        "MLflow run": run.mlflow_run_id,
    }
    for run in runs
)
print(f"{len(costs)} runs of {costs['asset'].nunique()} assets in {settings.home}")
costs.groupby("outcome")[["wall s", "CPU s"]].agg(["count", "sum"])

# %% [markdown]
# ## Which asset costs most?
#
# Seconds of all computations together, and the highest resident memory of the process during any of them; what it held
# before counts too. Reused values cost the comparison and the checks only.

# %%
made = costs[costs["outcome"] == "made"]
total = made.groupby("asset").agg({"wall s": "sum", "CPU s": "sum", "peak MiB": "max"}).sort_values("CPU s")
if total.empty:
    print("No computation has succeeded yet: the outcomes above say what was tried.")
else:
    figure, (seconds, memory) = plt.subplots(1, 2, figsize=(11, 0.8 + 0.3 * len(total)), sharey=True)
    place = np.arange(len(total))
    seconds.barh(place + 0.2, total["wall s"], 0.4, color="#0f766e", label="wall")
    seconds.barh(place - 0.2, total["CPU s"], 0.4, color="#94a3b8", label="CPU")
    seconds.set_yticks(place, total.index)
    seconds.set_xlabel("seconds, all computations together")
    seconds.legend(frameon=False)
    memory.barh(place, total["peak MiB"], 0.7, color="#4453c4")
    memory.set_xlabel("peak memory, MiB")
    for panel in (seconds, memory):
        panel.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    plt.show()

# %% [markdown]
# ## Which run was that?
#
# The computation of each asset that took most CPU time, and its latest one. MLflow finds a run when its search box says
# `attributes.run_id = '...'`; the run has the settings, the versions of the inputs and every figure.

# %%
shown = ["started", "wall s", "CPU s", "peak MiB", "MLflow run"]
by_cpu, by_start = (
    made.sort_values(column).drop_duplicates("asset", keep="last").set_index("asset")[shown]
    for column in ("CPU s", "started")
)
pd.concat({"dearest": by_cpu, "latest": by_start}, axis=1).reindex(total.index[::-1])

# %% [markdown]
# ## What does reuse save?
#
# The mean seconds of a computation beside those of taking over an equal value.

# %%
reused = costs[costs["outcome"] == "reused"].groupby("asset")["wall s"].mean()
saved = pd.DataFrame({"computed": made.groupby("asset")["wall s"].mean(), "reused": reused}).dropna()
if saved.empty:
    print("Nothing has been reused yet: run the job again.")
saved

# %% [markdown]
# ## Energy
#
# By source of the figure. A modelled joule is an assumption about watts, stated in its method; it says nothing about
# this machine's real consumption.

# %%
known = made.dropna(subset="joules")
table = None
if known.empty:
    print("No joules are known: this machine has no counter that can be read. See `measure.energy`.")
else:
    shown = known.pivot_table(index="asset", columns="energy", values="joules", aggfunc="sum")
    table = shown.astype(object).where(shown.notna(), "unavailable")
    figure, panels = plt.subplots(
        1, shown.shape[1], figsize=(7 * shown.shape[1], 0.8 + 0.3 * len(shown)), squeeze=False
    )
    for panel, name in zip(panels[0], shown, strict=True):
        panel.barh(shown.index, shown[name].fillna(0), color="#c2410c")
        panel.set_xlabel(f"joules, {name}")
        panel.spines[["top", "right"]].set_visible(False)
    plt.show()
table

# %% [markdown]
# ## Over time
#
# Seconds of each computation of the dearest assets. A step upwards is a larger source, another model, or a slower
# machine: compare the MLflow runs of the asset that are named above.

# %%
dearest = total.index[::-1][:8]
lines = max(1, -(-len(dearest) // 2))
figure, panels = plt.subplots(lines, 2, figsize=(10, 2.2 * lines), squeeze=False)
for panel in panels.ravel()[len(dearest) :]:
    panel.set_visible(False)
for panel, asset in zip(panels.ravel(), dearest, strict=False):
    for partition, rows in made[made["asset"] == asset].groupby("partition"):
        panel.plot(rows["started"], rows["CPU s"], "o-", markersize=3, label=partition or "whole machine")
    panel.set_title(f"{asset}, CPU s", loc="left", fontsize=9)
    panel.set_ylim(bottom=0)
    panel.tick_params(labelsize=7, axis="x", labelrotation=20)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, fontsize=7)
figure.tight_layout()
plt.show()
