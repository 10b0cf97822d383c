# %% [markdown]
# # The topology of your corpus
#
# What shape has the cloud of embeddings, which part of it can be relied on, and has it changed? Everything is read from
# the home that `AURA_HOME` names; nothing is computed again but what a cell shows.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image

import aura

assets = aura.published().to_pandas()
texts = assets[assets["name"] == "embedding_diagrams"].sort_values("rows")
if texts.empty:
    raise LookupError(
        "no embedding_diagrams are published: they are those of texts. Run the job `corpus` on a source that has some, "
        "as `make demo` does, or name another home in AURA_HOME"
    )
source = os.environ.get("AURA_NOTEBOOK_SOURCE") or texts["partition"].iloc[-1]
diagrams = aura.load("embedding_diagrams", source)
print(f"source {source!r}: {diagrams.provenance.reason}\n{diagrams.provenance.guarantee.sentence}")

# %% [markdown]
# ## Bars
#
# Each point is a component (H0) or a loop (H1): born at one scale, gone at another. What lies in the band along the
# diagonal may be an artefact of the landmarks; what lies above it is certified for the whole cloud.

# %%
from aura.topology.plots import barcode, landscape_band, persistence_diagram

Image(persistence_diagram(diagrams))

# %%
Image(barcode(diagrams))

# %% [markdown]
# ## Is that much, or what any cloud has?
#
# Points drawn uniformly from the sphere have bars too, from nothing but dimension. Below, the lengths of the finite
# bars of at most 400 texts beside those of such a cloud of as many points, both on at most 120 landmarks: what is
# longer than the grey ones is more than dimension. Of a larger source the texts are a sample, and another sample has
# other bars.

# %%
from aura.topology.persistence import persistence

vectors = aura.load("text_embeddings", source).vectors
count, landmarks = min(len(vectors), 400), min(len(vectors), 120)
chosen = np.random.default_rng(0).choice(len(vectors), count, replace=False)
noise = np.random.default_rng(1).standard_normal((count, vectors.shape[1])).astype(np.float32)
noise /= np.linalg.norm(noise, axis=1, keepdims=True)
clouds = {
    f"{count} of {len(vectors)} texts": persistence(points=vectors[chosen], landmarks=landmarks, seed=0),
    f"{count} points of the sphere": persistence(points=noise, landmarks=landmarks, seed=0),
}
drawn = "all" if count == len(vectors) else f"{count}, drawn uniformly without replacement,"
print(f"{drawn} of the {len(vectors)} texts of {source!r}, in {vectors.shape[1]} dimensions")
figure, axes = plt.subplots(1, 2, figsize=(9, 3))
for (name, diagram), colour in zip(clouds.items(), ("#c2410c", "#94a3b8"), strict=True):
    for dimension, panel in enumerate(axes):
        lengths = np.diff(diagram.bars(dimension), axis=1)[:, 0]
        lengths = np.sort(lengths[np.isfinite(lengths)])[::-1]
        panel.plot(np.arange(1, len(lengths) + 1), lengths, color=colour, label=f"{name}, {len(lengths)} bars")
for dimension, panel in enumerate(axes):
    panel.set_title(f"H{dimension}, {landmarks} landmarks", loc="left", fontsize=10)
    panel.set_xlabel("bars, the longest first")
    panel.set_ylabel("length")
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# ## What the longest loops are about
#
# A short cycle of texts around each of the longest loops, in order, to be read.

# %%
from aura.tiers.published import ValueNotPublishedError
from aura.topology.loops import loop_items

try:
    cycles = aura.load("embedding_loops", source)
    items = loop_items(cycles, aura.load("text_embeddings", source), aura.load("corpus_manifest", source)).to_pandas()
except ValueNotPublishedError:
    print("There is no loop among these texts.")
    items = None
items

# %% [markdown]
# ## How sure is the shape?
#
# Landscapes of random subsamples, averaged, with a bootstrap band: what a further subsample of the same size has in the
# mean lies within it with 95 % confidence.

# %%
try:
    picture = Image(landscape_band(aura.load("averaged_landscapes", source)))
except ValueNotPublishedError:
    print("This source has too few items for subsamples.")
    picture = None
picture

# %% [markdown]
# ## Has it changed?
#
# Both tests on the same two samples, with a budget of false alarms. Where topology alarms and the plain test does not,
# the shape has changed at the same mean; the other way round, the cloud has moved and kept its shape.

# %%
from aura.topology.drift.plots import drift_plot

reports = {}
for name in ("embedding_drift", "network_drift"):
    try:
        reports[name] = aura.load(name, source)
        print(f"{name}: {reports[name].sentence}")
    except ValueNotPublishedError:
        print(f"{name}: not published for this source")
Image(drift_plot(reports["embedding_drift"])) if "embedding_drift" in reports else None
