"""Checks of meaning on trained experts and their routing."""

from __future__ import annotations

import math

from aura.experts.model import ExpertModel
from aura.experts.routing_table import DEAD_UTILISATION, RoutingTable
from aura.measure.checks import CheckResult

TOLERANCE = 1e-9


def shares_sum_to_one(table: RoutingTable) -> CheckResult:
    """The experts' shares, and every label's shares over the experts, sum to one, and no item is lost in the counts."""
    total = math.fsum(table.experts["share"].to_pylist())
    by_label = table.labels.group_by("label").aggregate([("share", "sum")])["share_sum"].to_pylist()
    worst = max((abs(share - 1) for share in [total, *by_label]), default=math.inf)
    counted = sum(table.experts["kept"].to_pylist()) + sum(table.experts["dropped"].to_pylist())
    lost = table.figures.items - counted
    return CheckResult(
        passed=worst <= TOLERANCE and lost == 0,
        figures={"share_sum": total, "worst_deviation": worst, "items_not_counted": float(lost)},
        description=f"shares sum to one within {worst:.1e} (allowed {TOLERANCE:.0e}); {lost} items are not counted",
    )


def no_dead_expert(table: RoutingTable) -> CheckResult:
    """No expert gets less than a tenth of its fair share."""
    figures = table.figures
    least = min(table.experts["utilisation"].to_pylist())
    return CheckResult(
        passed=figures.dead_experts == 0,
        figures={
            "dead_experts": float(figures.dead_experts),
            "least_utilisation": least,
            "normalised_entropy": figures.normalised_entropy,
        },
        description=(
            f"{figures.dead_experts} of {figures.experts} experts get less than {DEAD_UTILISATION:g} of their fair "
            f"share; the least used gets {least:.2f}"
        ),
    )


def better_than_majority(model: ExpertModel) -> CheckResult:
    """The lower end of the Switch classifier's interval lies above always naming the most frequent label."""
    scores = model.card.scores
    return CheckResult(
        passed=scores.switch.low > scores.majority.value,
        figures={
            "switch_accuracy": scores.switch.value,
            "switch_accuracy_low": scores.switch.low,
            "dense_accuracy": scores.dense.value,
            "majority_accuracy": scores.majority.value,
        },
        description=(
            f"held-out accuracy {scores.switch.value:.3f} (95 % interval from {scores.switch.low:.3f}) against "
            f"{scores.majority.value:.3f} for the most frequent label; the dense twin reaches {scores.dense.value:.3f}"
        ),
    )
