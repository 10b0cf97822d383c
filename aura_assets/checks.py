"""The checks of the graph: which statement about a value guards which asset.

The statements themselves are pure functions of `aura`; here they get their names and whether they block.
"""

from __future__ import annotations

from aura.corpus.checks import identifiers_match_texts, most_items_usable
from aura.embeddings.checks import no_collapse, not_one_point, unit_norms
from aura.embeddings.joint.checks import better_than_chance, understands_strangers
from aura.experts.checks import better_than_majority, no_dead_expert, shares_sum_to_one
from aura.experts.language.checks import (
    all_seeds_are_done,
    better_at_equal_steps,
    better_than_no_model,
    enough_tokens,
    no_expert_is_dead,
    tokens_stand_for_every_byte,
)
from aura.experts.routing.requests import every_token_counted
from aura.overview.rendered import every_cell_ran
from aura.search.checks import finds_neighbours, finds_themselves
from aura.tiers.planning.checks import as_predicted, costs_are_sound, not_slower, within_capacity
from aura.topology.checks import births_before_deaths, finite_h1
from aura.topology.drift.checks import (
    drift_was_tested,
    no_drift,
    reference_is_sound,
    windows_are_exchangeable,
)
from aura.topology.summary_checks import a_band_to_trust, loops_are_exact, within_the_grid
from aura_assets.step import ValueCheck

MANIFEST = (
    ValueCheck(
        "identifiers_match_texts", "Every text is listed under the digest of its content.", identifiers_match_texts
    ),
    ValueCheck("most_items_usable", "Not most of the items were set aside.", most_items_usable, blocking=False),
)

EMBEDDINGS = (
    ValueCheck("unit_norms", "Every vector is finite and has length one.", unit_norms),
    ValueCheck("no_collapse", "The vectors differ: they have not fallen onto a point or a line.", no_collapse),
)

SHARED_EMBEDDINGS = (
    ValueCheck("unit_norms", "Every vector is finite and has length one.", unit_norms),
    ValueCheck("not_one_point", "The vectors differ: they have not fallen onto a point.", not_one_point),
)

JOINT_MODEL = (
    ValueCheck(
        "better_than_chance",
        "Each modality surely finds each other one more often than by chance, on held-out items.",
        better_than_chance,
        blocking=False,
    ),
)

JOINT_REPORT = (
    ValueCheck(
        "understands_strangers",
        "Speakers whom a model has never heard are understood more often than by chance.",
        understands_strangers,
        blocking=False,
    ),
)

SEARCH_INDEX = (
    ValueCheck("self_retrieval", "A vector that is searched for is found first.", finds_themselves),
    ValueCheck("recall", "What a comparison with all vectors finds is found.", finds_neighbours),
)

DIAGRAMS = (
    ValueCheck("births_before_deaths", "Every bar is born before it dies.", births_before_deaths),
    ValueCheck("finite_h1", "Every loop dies: at the enclosing radius the complex is a cone.", finite_h1),
)

DRIFT_REFERENCE = (
    ValueCheck("sound", "Every item of the reference is there once, with finite values.", reference_is_sound),
)

DRIFT = (
    ValueCheck("no_drift", "Neither test finds more difference than chance explains.", no_drift, blocking=False),
    ValueCheck("drift_was_tested", "Both tests could be made.", drift_was_tested, blocking=False),
)

NETWORK_DRIFT = (
    *DRIFT,
    ValueCheck(
        "windows_are_exchangeable",
        "Neighbouring windows are no more alike than others, which both tests rely on.",
        windows_are_exchangeable,
        blocking=False,
    ),
)

DIAGRAM_VECTORS = (ValueCheck("within_the_grid", "The grid holds nearly all bars.", within_the_grid, blocking=False),)

LOOPS = (ValueCheck("loops_represent_their_bars", "Each cycle stands for its bar.", loops_are_exact, blocking=False),)

LANDSCAPES = (
    ValueCheck("a_band_to_trust", "There are enough subsamples for the bootstrap.", a_band_to_trust, blocking=False),
)

EXPERT_MODEL = (
    ValueCheck(
        "better_than_majority",
        "On the held-out split the model surely beats the most frequent label; few items leave that open.",
        better_than_majority,
        blocking=False,
    ),
)

ROUTING_TABLE = (
    ValueCheck(
        "shares_sum_to_one",
        "The experts' shares sum to one per layer, as do each label's, and every assignment is counted.",
        shares_sum_to_one,
    ),
    ValueCheck("no_dead_expert", "Every expert of every layer gets tokens.", no_dead_expert, blocking=False),
)

REQUEST_ACTIVATIONS = (
    ValueCheck("every_token_counted", "Every layer has sent each token to its experts.", every_token_counted),
)

LANGUAGE_TEXT = (ValueCheck("whole", "The tokens stand for every byte of the text.", tokens_stand_for_every_byte),)

LANGUAGE_MODELS = (
    ValueCheck("better_than_no_model", "Both models need fewer than eight bits for a byte.", better_than_no_model),
    ValueCheck(
        "no_expert_is_dead", "Every expert gets a tenth of its fair load or more.", no_expert_is_dead, blocking=False
    ),
)

MOE_VERSUS_DENSE = (
    ValueCheck("all_seeds_are_done", "Three seeds were trained.", all_seeds_are_done),
    ValueCheck("enough_tokens", "The trainings are long enough to prove anything.", enough_tokens, blocking=False),
    ValueCheck(
        "better_at_equal_steps",
        "After the same steps the model with experts needs fewer bits, and the interval is apart from zero.",
        better_at_equal_steps,
        blocking=False,
    ),
)

NOTEBOOK = (ValueCheck("every_cell_ran", "Every code cell was run, to its end.", every_cell_ran),)

TIER_PROFILE = (
    ValueCheck(
        "costs_are_sound", "The disk was measured, and every fitted line is near what was measured.", costs_are_sound
    ),
)

TIER_PLACEMENT = (
    ValueCheck("within_capacity", "No tier holds more than its capacity.", within_capacity),
    ValueCheck("not_slower", "The mean get is not slower after the placement than before.", not_slower, blocking=False),
    ValueCheck(
        "as_predicted", "Reading costs what the profile predicted, within a factor.", as_predicted, blocking=False
    ),
)
