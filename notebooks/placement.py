# %% [markdown]
# # Where should my objects live?
#
# What a read costs on each memory tier of this machine, what was read, where the planner puts each object for that, and
# which eviction policy would have done how well. Everything is read from the home that `AURA_HOME` names.

# %%
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image

import aura

placement, profile = aura.load("tier_placement"), aura.load("tier_profile")
print(profile.machine)
print(placement.basis)
placement.tiers.to_pandas()

# %% [markdown]
# ## What a read costs
#
# Measured with real objects, in the process that owns the store. The nominal order of the tiers need not be the order
# of their speed: look where the lines cross.

# %%
from aura.tiers.planning.plots import plot_history, plot_placement, plot_profile

Image(plot_profile(profile))

# %% [markdown]
# ## What was read
#
# The objects in order of their expected reads. The steeper the curve, the more a small fast tier can gain; where it is
# flat, no placement helps.

# %%
objects = placement.objects.to_pandas().sort_values("weight", ascending=False)
share = objects["weight"].cumsum() / max(objects["weight"].sum(), 1e-12)
held = objects["bytes"].cumsum() / objects["bytes"].sum()
figure, axes = plt.subplots(figsize=(6, 3))
axes.plot(100 * np.r_[0, held], 100 * np.r_[0, share], color="#0f766e")
axes.plot([0, 100], [0, 100], ":", color="#94a3b8")
axes.set_xlabel("share of all bytes, the most read first (%)")
axes.set_ylabel("share of the reads (%)")
axes.spines[["top", "right"]].set_visible(False)
plt.show()
objects.head(15)

# %% [markdown]
# ## What the placement gained
#
# Predicted and measured, before and after. The lower bound is proven: no placement within the capacities costs less by
# the same prediction.

# %%
print(
    f"expected cost of {placement.accesses:,} reads: {placement.predicted_cost_before_seconds:.4g} s before, "
    f"{placement.predicted_cost_seconds:.4g} s after, at least {placement.lower_bound_seconds:.4g} s in any placement"
)
Image(plot_placement(placement))

# %%
Image(plot_history(placement))

# %% [markdown]
# ## Which policy would have missed least?
#
# The reads behind this placement, drawn again at random by their weights (seed 0), through each eviction policy and the
# offline optimum. Independent reads are what frequency-based policies like best; a real trace has an order, which `aura
# tiers replay TRACE` keeps.

# %%
from aura.overview.replays import replayed
from aura.tiers.replay.trace import Trace

weights = objects["weight"].to_numpy()
if weights.sum() > 0:
    ids = np.random.default_rng(0).choice(len(objects), 5000, p=weights / weights.sum())
    result = replayed(Trace("independent reads", ids.astype(np.int64), objects["bytes"].to_numpy()[ids].clip(1)))
    picture = Image(result.png)
else:
    print("Nothing was read since the store was made: there is nothing to replay.")
    picture = None
picture
