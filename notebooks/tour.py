# %% [markdown]
# # A tour of the assets
#
# Everything below is read from the tiered store and from the cost records of this home; nothing is computed again but
# what a cell shows. It runs on any home where the jobs `corpus` and `tiers` have run (`make demo`), and draws the
# source with the most texts; what this source does not have is said in its place. The environment variables `AURA_HOME`
# and `AURA_NOTEBOOK_SOURCE` name another home and another source.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Image

import aura
from aura.settings import load_settings
from aura.tiers.published import ValueNotPublishedError
from aura.tiers.values import StoredValue

settings = load_settings()
assets = aura.published().to_pandas()
# The last one has the most texts or, where no texts are embedded, the most items.
listed = assets[assets["name"].isin(["corpus_manifest", "text_embeddings"])].sort_values(["name", "rows"])
if listed.empty:
    raise LookupError(f"{settings.home} holds no corpus_manifest: run `make demo`, or name another home in AURA_HOME")
source = os.environ.get("AURA_NOTEBOOK_SOURCE") or listed["partition"].iloc[-1]
print(f"home {settings.home}, source {source!r}")
assets

# %% [markdown]
# ## What it cost
#
# Every materialization is measured: wall and CPU seconds, highest memory, and joules where this machine has a counter
# for them. Below is the latest one of each asset. One that is marked *reused* computed nothing, because nothing that it
# depends on had changed: it paid for the comparison and the checks only. *Skipped* had nothing to make, *refused* did
# not pass its checks.

# %%
from aura.measure.history import CostHistory
from aura.overview.costs import outcome

latest = CostHistory(settings.tracking_uri, settings.measure.mlflow_experiment).latest()
costs = pd.DataFrame(
    {
        "asset": cost.asset if cost.partition is None else f"{cost.asset}[{cost.partition}]",
        "outcome": outcome(cost),
        "wall s": round(cost.wall_seconds, 2),
        "CPU s": round(cost.cpu_seconds, 2),
        "peak MiB": round(cost.peak_memory_mib),
        "joules": "unavailable" if cost.joules is None else cost.joules,
        "energy": cost.energy_source,
        "started": cost.started_at,
    }
    for cost in reversed(latest)
)
costs

# %%
if costs.empty:
    print(f"No run of this home is known at {settings.tracking_uri}: what is published was not measured there.")
else:
    figure, axes = plt.subplots(figsize=(8, 0.6 + 0.35 * len(costs)))
    place = np.arange(len(costs))
    axes.barh(place - 0.2, costs["wall s"], 0.4, color="#0f766e", label="wall")
    axes.barh(place + 0.2, costs["CPU s"], 0.4, color="#94a3b8", label="CPU")
    axes.set_yticks(place, costs["asset"] + np.where(costs["outcome"] == "made", "", " (" + costs["outcome"] + ")"))
    axes.invert_yaxis()
    axes.set_xlabel("seconds of the latest materialization")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    plt.show()

# %% [markdown]
# ## The corpus
#
# The manifest lists every item of the source under the digest of its content. What cannot be used (empty, too large,
# not decodable) is *set aside* with its reason, and the run goes on.

# %%
manifest = aura.load("corpus_manifest", source)
manifest.counts().to_pandas()

# %%
aside = manifest.set_aside().to_pandas()
print(f"{len(aside)} items are set aside.")
aside.head(10)

# %%
from aura.corpus.plots import plot_labels

Image(plot_labels(manifest))

# %% [markdown]
# ## The embeddings
#
# Each text is a unit vector, so the inner product of two is their cosine. Three texts, spread evenly over the source,
# with the three that lie nearest to each:

# %%
skipped = {cost.asset: cost.tags["reason"] for cost in latest if cost.partition == source and "reason" in cost.tags}


def load(name: str, made_from: str) -> StoredValue | None:
    """What is published of the source; None where there is nothing, and then the reason is printed."""
    try:
        return aura.load(name, source)
    except ValueNotPublishedError:
        reason = skipped.get(name, f"the job `corpus` makes it from {made_from}")
        print(f"There is no {name} of {source!r}: {reason}.")
        return None


embeddings = load("text_embeddings", "corpus_manifest")
text_of = dict(zip(*(manifest.items("text")[column].to_pylist() for column in ("item_id", "text")), strict=True))


def excerpt(row: int, length: int = 150) -> str:
    text = " ".join(text_of.get(described["item_id"][row], "(no longer in the manifest)").split())
    return text if len(text) <= length else text[:length] + " ..."


if embeddings is None:
    print("Name a source with texts in AURA_NOTEBOOK_SOURCE, or add one: `aura sources add notes ~/notes`.")
else:
    vectors = embeddings.vectors
    described = embeddings.table.select(["item_id", "uri"]).to_pandas()
    print(f"{len(vectors)} vectors of {vectors.shape[1]} dimensions by {embeddings.model}\n")
    for row in np.unique(np.linspace(0, len(vectors) - 1, 5).astype(int)[1:-1]):
        cosines = vectors @ vectors[row]
        print(f"{described['uri'][row]}\n    {excerpt(row)}")
        for near in [near for near in np.argsort(-cosines)[:4] if near != row][:3]:
            print(f"  {cosines[near]:.3f}  {described['uri'][near]}\n         {excerpt(near)}")
        print()

# %% [markdown]
# Single examples persuade too easily. Over all labelled texts: how often does the nearest neighbour carry the same
# label, and how often would a text drawn at random?

# %%
label = np.array(embeddings.table["label"].to_pylist() if embeddings else [], dtype=object)
labelled = np.flatnonzero(pd.notna(label))
if len(labelled) < 2:
    print(
        f"{len(labelled)} texts have a label, and a comparison takes two. The label of a file is its first directory "
        "below the source, that of a row of a table its column `label`."
    )
else:
    cosine, same = [], []
    for rows in np.array_split(labelled, max(1, len(labelled) // 512)):
        cosines = vectors[rows] @ vectors[labelled].T
        cosines[np.arange(len(rows)), np.searchsorted(labelled, rows)] = -np.inf
        nearest = labelled[cosines.argmax(axis=1)]
        cosine.append(cosines.max(axis=1))
        same.append(label[rows] == label[nearest])
    cosine, same = np.concatenate(cosine), np.concatenate(same).astype(bool)
    sizes = pd.Series(label[labelled]).value_counts().to_numpy()
    chance = (sizes * (sizes - 1)).sum() / (len(labelled) * (len(labelled) - 1))
    print(
        f"{100 * same.mean():.1f} % of {len(same)} nearest neighbours carry the same label; "
        f"at random {100 * chance:.1f} %"
    )

    figure, axes = plt.subplots(figsize=(7, 3))
    bins = np.histogram_bin_edges(cosine, 40)
    axes.hist([cosine[same], cosine[~same]], bins, stacked=True, color=["#0f766e", "#cbd5e1"], label=["same", "other"])
    axes.set_xlabel("cosine to the nearest neighbour")
    axes.set_ylabel("texts")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(title="its label is", frameon=False)
    plt.show()

# %% [markdown]
# On its first two principal components the cloud looks like this; the axes say how little of the variance a plane can
# hold, so distances in the picture are not distances of the vectors.

# %%
from aura.embeddings.plots import scatter

Image(scatter(embeddings)) if embeddings else None

# %% [markdown]
# `aura.find` asks in words. It also takes the path of an image or a sound, and `within="images"` or `"sounds"` looks
# across modalities where the source has a joint model.

# %%
aura.find("the mean of some numbers", source=source, count=5) if embeddings else None

# %% [markdown]
# ## The diagrams
#
# Persistent homology of the cloud: connected components (H0) and loops (H1), each a bar from the scale at which it
# appears to the scale at which it ends. They are computed on landmarks. With the covering radius $\delta$ of the
# landmarks, the diagram of the whole cloud is within $2\delta$ of this one in bottleneck distance, so only a bar longer
# than $4\delta$ is certified to be there in the whole cloud.

# %%
from aura.topology.plots import barcode

diagrams = load("embedding_diagrams", "text_embeddings")
if diagrams:
    made = diagrams.provenance
    for dimension in range(made.max_dimension + 1):
        lengths = np.diff(diagrams.bars(dimension), axis=1)[:, 0]
        finite = lengths[np.isfinite(lengths)]
        longest = f"the longest {finite.max():.3f}" if len(finite) else "none finite"
        print(f"H{dimension}: {len(lengths)} bars, {longest}, {diagrams.certified(dimension).sum()} certified")
    delta = made.covering_radius
    print(f"{made.landmarks} landmarks of {made.points} points, δ = {delta:.3f}, 4δ = {4 * delta:.3f}")
    if delta == 0:
        print("Every point is a landmark: the diagrams are exact.")
    elif not any(diagrams.certified(dimension).any() for dimension in range(made.max_dimension + 1)):
        print("No bar is longer than 4δ: as a statement about the whole cloud, the bound certifies none of them.")
Image(barcode(diagrams)) if diagrams else None

# %% [markdown]
# With many more texts than landmarks $\delta$ is large: unit vectors of hundreds of dimensions lie far apart, and the
# landmarks leave other texts at nearly the distance that separates any two. Then the bound says nothing about single
# bars. What the diagrams are still good for is comparison, with the same number of landmarks and the same seed; what is
# exact is exact about the landmarks.
#
# The same bars as points: what lies in the band may be noise. Then as an image of fixed size, on a grid that all
# sources share, so that one can compare them.

# %%
from aura.topology.plots import persistence_diagram, persistence_images

Image(persistence_diagram(diagrams)) if diagrams else None

# %%
images = load("diagram_vectors", "embedding_diagrams")
Image(persistence_images(images)) if images else None

# %% [markdown]
# What the longest loops go around: a short cycle of texts for each.

# %%
loops = load("embedding_loops", "embedding_diagrams")
uris = embeddings.table["uri"] if embeddings else None
for number, cycle in enumerate(loops.cycles if loops else (), start=1):
    print(f"loop {number}, from {cycle.birth:.3f} to {cycle.death:.3f}")
    print("   ", " - ".join(uris.take(list(cycle.vertices)).to_pylist()))

# %% [markdown]
# ## Drift
#
# Whether the texts are still what they were when the source was first seen. Two tests on the same two samples: one on
# the shape of random blocks of texts, one on the vectors themselves. What chance gives is the grey distribution.

# %%
from aura.topology.drift.plots import drift_plot

report = load("embedding_drift", "text_embeddings")
if report:
    print(report.sentence)
Image(drift_plot(report)) if report else None

# %% [markdown]
# ## The experts
#
# A Switch layer sends each text to one expert. It is trained to tell labels apart, so a source without labels has none.
# Load and specialisation:

# %%
from aura.experts.plots import plot_expert_load, plot_label_experts, plot_training

model = load("expert_model", "text_embeddings")
routing = load("expert_routing_table", "expert_model, or from the mixture that `experts.routed_model` names")
if routing:
    layer = routing.layers.to_pylist()[0]
    print(
        f"{layer['experts']} experts, {layer['dead_experts']} dead; busiest over mean {layer['max_over_mean']:.2f}; "
        f"{100 * layer['drop_rate']:.1f} % dropped at capacity factor {routing.figures.capacity_factor}\n"
        f"an expert tells {layer['label_bits']:.2f} bits about the label; with shuffled labels "
        f"{layer['label_shuffled_mean_bits']:.2f} on average and at most {layer['label_shuffled_max_bits']:.2f}"
    )
Image(plot_expert_load(routing)) if routing else None

# %%
Image(plot_label_experts(routing)) if routing else None

# %% [markdown]
# Does it pay? Beside the Switch classifier a dense twin of equal active compute was trained on the same batches, and
# both were asked for the labels of the same held-out texts. The intervals are 95 % (Wilson). They overlap more easily
# than the question needs, since both networks answered the same texts, so the exact sign test (McNemar) on the texts
# that only one of them got right decides.

# %%
from scipy.stats import binomtest

if model is None:
    print("No classifier was trained on this source: there is nothing to compare.")
else:
    card, scores = model.card, model.card.scores
    accuracies = {
        "Switch": scores.switch,
        "Switch at capacity": scores.switch_at_capacity,
        "dense twin": scores.dense,
        "most frequent label": scores.majority,
    }
    figure, axes = plt.subplots(figsize=(7, 2.2))
    for place, (name, found) in enumerate(accuracies.items()):
        arms = [[100 * (found.value - found.low)], [100 * (found.high - found.value)]]
        axes.errorbar(100 * found.value, place, xerr=arms, fmt="o", color="#0f766e", capsize=3)
        print(f"{name:20} {100 * found.value:5.1f} %  [{100 * found.low:.1f}, {100 * found.high:.1f}]")
    axes.set_yticks(range(len(accuracies)), accuracies)
    axes.invert_yaxis()
    axes.set_xlabel(f"accuracy on {scores.switch.items} held-out texts (%)")
    axes.spines[["top", "right"]].set_visible(False)
    plt.show()

    switch, dense = scores.only_switch_correct, scores.only_dense_correct
    if switch + dense == 0:
        print("No text was told by one network only.")
    else:
        p = binomtest(switch, switch + dense).pvalue
        better = "No difference is shown." if p >= 0.05 else f"{'Switch' if switch > dense else 'Dense'} is better."
        print(f"only Switch right: {switch}, only dense right: {dense}, p = {p:.2g}\n{better}")
    print(
        f"trained numbers: Switch {card.switch_cost.parameters:,}, dense {card.dense_cost.parameters:,}; "
        f"active operations per text: Switch {card.switch_cost.active_flops:,}, dense {card.dense_cost.active_flops:,}"
    )

# %%
Image(plot_training(model)) if model else None

# %% [markdown]
# ## The tiers
#
# What a read costs on each memory tier of this machine is measured with real objects, never assumed: the nominal order
# of the tiers need not be the order of their speed.

# %%
from aura.tiers.planning.plots import plot_placement, plot_profile

profile = aura.load("tier_profile")
print(profile.machine)
for tier in profile.tiers:
    print(f"  {tier} {tier.label:15} 64 KiB in {1e6 * float(profile.predict_seconds(tier, 64 * 1024)):6.1f} µs")
Image(plot_profile(profile))

# %% [markdown]
# The placement gives every object the tier where its expected reads cost least, within the tiers' capacities. Its cost
# is compared with a lower bound that no placement can beat, and its effect is measured by replaying the access log
# before and after.

# %%
placement = aura.load("tier_placement")
moves = placement.moves
print(
    f"{placement.objects.num_rows} objects, {placement.accesses} accesses in the log; weights from: {placement.basis}"
)
print(f"{moves.promoted} promoted, {moves.demoted} demoted, {moves.bytes_moved / 2**20:.1f} MiB moved")
print(f"predicted cost at most {100 * placement.gap:.2f} % above the lower bound")
before, after = placement.measured_before, placement.measured_after
if before is None or after is None:
    print("Nothing could be replayed.")
else:
    for when, latency in (("before", before), ("after", after)):
        print(
            f"mean get {when:6} {1e6 * latency.mean_seconds:6.1f} µs "
            f"[{1e6 * latency.mean_low:.1f}, {1e6 * latency.mean_high:.1f}] over {latency.n} reads"
        )
    if before.mean_low > after.mean_high:
        print("The placement made reads faster.")
    elif after.mean_low > before.mean_high:
        print("The placement made reads slower.")
    else:
        print("The intervals overlap: no difference is shown.")
Image(plot_placement(placement))

# %% [markdown]
# The placement that is shown is that of the last `tiers` job. The memory tiers live in the process that owns the store
# and end with it; `aura tiers stat` says what they hold now.
