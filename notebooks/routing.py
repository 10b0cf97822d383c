# %% [markdown]
# # Does routing pay?
#
# Who is sent to which expert, whether that has to do with what the texts are about, and whether a model with experts is
# better than a dense one of equal active compute. Everything is read from the home that `AURA_HOME` names.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image

import aura
from aura.tiers.published import ValueNotPublishedError

assets = aura.published().to_pandas()
tables = assets[assets["name"] == "expert_routing_table"].sort_values("rows")
if tables.empty:
    raise LookupError(
        "no expert_routing_table is published: experts are trained on texts with labels. Run the job `corpus` on a "
        "source that has some, as `make demo` does, set `experts.routed_model`, or name another home in AURA_HOME"
    )
source = os.environ.get("AURA_NOTEBOOK_SOURCE") or tables["partition"].iloc[-1]
routing = aura.load("expert_routing_table", source)
print(f"source {source!r}: {routing.figures.items:,} items, {routing.figures.tokens:,} tokens, {routing.figures.model}")
routing.layers.to_pandas().T

# %% [markdown]
# ## Load
#
# A fair load is the same for every expert. Entropy 1 is even; an expert below a tenth of its share is dead.

# %%
from aura.experts.plots import plot_expert_load, plot_label_experts

Image(plot_expert_load(routing))

# %% [markdown]
# ## Specialisation
#
# Mutual information of expert and label, in bits, beside what shuffled labels give: a table of few items always shares
# some bits by chance. The same for clusters of the embeddings, which know nothing of the labels.

# %%
Image(plot_label_experts(routing))

# %%
layers = routing.layers.to_pylist()
figure, axes = plt.subplots(figsize=(7, 2.8))
place = np.arange(len(layers))
for shift, (column, name, colour) in zip(
    (-0.2, 0.2), (("label", "label", "#0f766e"), ("cluster", "cluster", "#4453c4")), strict=True
):
    axes.bar(place + shift, [layer[f"{column}_bits"] for layer in layers], 0.36, color=colour, label=name)
    chance = [layer[f"{column}_shuffled_max_bits"] for layer in layers]
    axes.plot(
        place + shift, chance, "_", color="black", markersize=18, label="by chance at most" if shift < 0 else None
    )
axes.set_xticks(place, [f"layer {layer['layer']}" for layer in layers])
axes.set_ylabel("bits shared with the expert")
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# ## The classifier beside its dense twin
#
# Both see the same batches and are asked for the labels of the same held-out items.

# %%
from aura.experts.plots import plot_training

try:
    model = aura.load("expert_model", source)
    scores = model.card.scores
    for name in ("switch", "dense", "majority"):
        accuracy = getattr(scores, name)
        low, high = 100 * accuracy.low, 100 * accuracy.high
        print(f"{name:10} {100 * accuracy.value:5.1f} %  [{low:.1f}, {high:.1f}] of {accuracy.items} items")
    picture = Image(plot_training(model))
except ValueNotPublishedError:
    print("No classifier was trained on this source.")
    picture = None
picture

# %% [markdown]
# ## The language model beside its dense twin
#
# Bits per byte of held-out text at equal steps, at equal time, and the time to equal quality, over three seeds. It is
# trained by the job `language`, which takes minutes and is not part of `make demo`.

# %%
from aura.experts.language.plots import plot_curves, plot_differences

try:
    comparison = aura.load("moe_versus_dense")
    print(comparison.sentence())
    picture = Image(plot_differences(comparison))
except ValueNotPublishedError:
    print("Not measured in this home yet: run the job `language`.")
    comparison, picture = None, None
picture

# %%
Image(plot_curves(comparison.cards)) if comparison else None
