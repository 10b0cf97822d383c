"""Checks of meaning on trained experts and their routing."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aura.experts.model import ExpertModel
from aura.experts.routing.figures import DEAD_UTILISATION
from aura.experts.routing.table import RoutingTable
from aura.measure.checks import CheckResult

TOLERANCE = 1e-9


def shares_sum_to_one(table: RoutingTable) -> CheckResult:
    """The shares sum to one per layer, and per label and cluster of a layer; every assignment is counted everywhere."""
    worst = max(
        (abs(share - 1) for rows, keys in _shares(table) for share in _sums(rows, keys, "share")), default=math.inf
    )
    wanted = table.column("assignments")
    counted = {
        "kept or dropped": _per_layer(table, pc.add(table.experts["kept"], table.experts["dropped"])),
        "by expert": _per_layer(table, table.experts["tokens"]),
        "by item": np.array([table.activations(layer).sum(dtype=np.int64) for layer in range(len(wanted))]),
        "expected": table.column("tokens") * table.column("top_k"),
    }
    lost = {name: float(np.abs(wanted - found).max()) for name, found in counted.items()}
    return CheckResult(
        passed=worst <= TOLERANCE and not any(lost.values()),
        figures={"worst_deviation": worst, "assignments_not_counted": max(lost.values())},
        description=f"shares sum to one within {worst:.1e} (allowed {TOLERANCE:.0e}); not counted: "
        + ", ".join(f"{count:.0f} {name}" for name, count in lost.items()),
    )


def no_dead_expert(table: RoutingTable) -> CheckResult:
    """No expert of any layer gets less than a tenth of its fair share."""
    dead = int(table.column("dead_experts").sum())
    least = float(pc.min(table.experts["utilisation"]).as_py())
    entropy = float(table.column("normalised_entropy").min())
    return CheckResult(
        passed=dead == 0,
        figures={"dead_experts": float(dead), "least_utilisation": least, "normalised_entropy": entropy},
        description=(
            f"{dead} of {table.experts.num_rows} experts in {table.layers.num_rows} layers get less than "
            f"{DEAD_UTILISATION:g} of their fair share; the least used gets {least:.2f}"
        ),
    )


def _shares(table: RoutingTable) -> list[tuple[pa.Table, list[str]]]:
    return [
        (table.experts, ["layer"]),
        (table.labels, ["layer", "label"]),
        (table.clusters, ["layer", "cluster"]),
        (table.transitions.rename_columns({"probability": "share"}), ["layer", "expert"]),
    ]


def _sums(rows: pa.Table, keys: list[str], column: str) -> list[float]:
    sums: list[float] = rows.group_by(keys).aggregate([(column, "sum")])[f"{column}_sum"].to_pylist()
    return sums


def _per_layer(table: RoutingTable, values: pa.ChunkedArray) -> np.ndarray:
    layers = table.experts["layer"].to_numpy()
    return np.bincount(layers, weights=values.to_numpy(), minlength=table.layers.num_rows)


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
