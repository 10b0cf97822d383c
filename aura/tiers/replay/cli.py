"""The command `aura tiers replay`.

Belongs here: options, the table, the JSON object. Does not: what is computed (the rest of this package).
"""

from __future__ import annotations

import tempfile
from dataclasses import replace as with_changes
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ByteSize, TypeAdapter, ValidationError

from aura.terminal import AsJson, completing, print_json, working

if TYPE_CHECKING:
    from rich.console import Console

    from aura.tiers.replay.comparison import Row
    from aura.tiers.replay.policy import Policy
    from aura.tiers.replay.readers import Format
    from aura.tiers.replay.through_store import StoreOutcome
    from aura.tiers.replay.trace import Trace

ONLINE = "online layer"
"""What the store's own online layer is called beside the policies."""
DEFAULT_LIMIT = 200_000
DEFAULT_SIZES = "5%,10%,25%"
DEFAULT_OBJECT_BYTES = 4096


def _formats() -> tuple[str, ...]:
    from aura.tiers.replay.readers import FORMATS

    return FORMATS


def tiers_replay(
    trace: Annotated[Path, typer.Argument(help="Trace file; .xz and .gz are read as they are.")],
    *,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            autocompletion=completing(lambda: [*_policies(None), "all"]),
            help="A policy, or `all`; give it several times for several.",
        ),
    ] = None,
    sizes: Annotated[
        str, typer.Option(help="Capacities, with commas: parts of all objects (10%), bytes (64MiB), or objects (5000).")
    ] = DEFAULT_SIZES,
    unit: Annotated[bool, typer.Option("--unit", help="Leave the sizes in the trace aside.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Accesses that are read, from the start.")] = DEFAULT_LIMIT,
    layout: Annotated[
        str | None,
        typer.Option(
            "--format",
            autocompletion=completing(_formats),
            help="routes, decoding, blocks, int64, int32, text; else by content.",
        ),
    ] = None,
    as_json: AsJson = False,
    plot: Annotated[Path | None, typer.Option(help="Draw miss ratio over capacity into this PNG.")] = None,
    store: Annotated[
        bool, typer.Option("--store", help="Also with real bytes through a store in a temporary directory.")
    ] = False,
    costs: Annotated[
        str | None,
        typer.Option(
            help="Cost of a read from each tier, with commas: tiers as large as --sizes up to there, then a last."
        ),
    ] = None,
    object_bytes: Annotated[
        int, typer.Option(min=1, help="With --store: bytes of an object where the trace has no sizes.")
    ] = DEFAULT_OBJECT_BYTES,
) -> None:
    """Replay an access trace through eviction policies: their misses against LRU and the offline optimum.

    The optimum is Belady's where all objects count as one, else a bound (PFOO-L) that no policy can beat. Policies are
    lru, one-hit-gate, s3-fifo, arc, w-tinylfu, cycle-aware, hit-density, and the portfolio, which picks among them.

    For example `aura tiers replay trace.txt.xz --policy arc --policy s3-fifo --sizes 1%,10%`.
    """
    from aura.tiers.replay.comparison import compare
    from aura.tiers.replay.plot import plot_comparison
    from aura.tiers.replay.readers import TraceError, read_trace

    names = _policies(policy)
    try:
        accesses = read_trace(trace, limit=limit, layout=_layout(layout))
    except (TraceError, OSError) as error:
        raise typer.BadParameter(str(error)) from error
    if unit:
        accesses = accesses.without_sizes()
    capacities = _capacities(sizes, accesses.footprint)
    tier_costs = _costs(costs, len(capacities) + 1)
    with working("Replaying ...") as tell:
        rows = compare(accesses, capacities, names, tell=tell)
        outcomes = _through_store(accesses, capacities[0], names, object_bytes) if store else {}
    stacked = _stacked(tier_costs, rows)
    if as_json:
        print_json(_as_object(accesses, rows, outcomes) | stacked)
    else:
        _print(accesses, rows, outcomes, capacities[0], object_bytes)
        for name, cost in stacked.items():
            typer.echo(f"{name.replace('_', ' ')}: {cost:.4g} for a read in the mean")
    if plot is not None:
        plot.write_bytes(plot_comparison(rows, accesses.footprint, f"{accesses.name}, {len(accesses):,} accesses"))
        typer.echo(f"The plot is in {plot}.", err=True)


def _policies(chosen: list[str] | None) -> list[str]:
    from aura.tiers.replay.policies import POLICIES

    names = list(dict.fromkeys(chosen or ["all"]))
    if "all" in names:
        return list(POLICIES)
    for name in names:
        if name not in POLICIES:
            raise typer.BadParameter(f"there is no policy {name!r}; there are {', '.join(POLICIES)}, and all")
    return names


def _layout(name: str | None) -> Format | None:
    from aura.tiers.replay.readers import FORMATS

    for layout in FORMATS:
        if layout == name:
            return layout
    if name is None:
        return None
    raise typer.BadParameter(f"there is no format {name!r}; there are {', '.join(FORMATS)}")


def _capacities(text: str, footprint: int) -> list[int]:
    """Capacities in the unit of the footprint, ascending."""
    found = set()
    for each in text.split(","):
        try:
            if each.strip().endswith("%"):
                size = int(float(each.strip()[:-1]) / 100 * footprint)
            else:
                size = int(TypeAdapter(ByteSize).validate_python(each.strip()))
        except (ValidationError, ValueError, OverflowError) as error:
            raise typer.BadParameter(
                f"--sizes: {each!r} is not a part (10%), bytes (64MiB) or objects (5000)"
            ) from error
        if size < 1:
            raise typer.BadParameter(f"--sizes: {each!r} is less than one of {footprint}")
        found.add(size)
    return sorted(found)


def _costs(text: str | None, tiers: int) -> list[float] | None:
    """The cost of each tier, ascending."""
    if text is None:
        return None
    try:
        found = [float(each) for each in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"--costs: {text!r} has something that is no number") from error
    if len(found) != tiers or found != sorted(found) or not all(0 <= each < float("inf") for each in found):
        raise typer.BadParameter(f"--costs: {text!r} is not {tiers} costs, one more than there are sizes, ascending")
    return found


def _stacked(costs: list[float] | None, rows: list[Row]) -> dict[str, float]:
    """Mean cost of a read by the LRU cascade and by the least that is possible; empty without costs."""
    from aura.tiers.replay.comparison import OPTIMUM, YARDSTICK
    from aura.tiers.replay.optimum import stacked_cost

    if costs is None:
        return {}
    ratios = {name: [row.outcome.miss_ratio for row in rows if row.policy == name] for name in (YARDSTICK, OPTIMUM)}
    return {
        "lru_cascade": stacked_cost(costs, ratios[YARDSTICK]),
        "stacked_bound": stacked_cost(costs, ratios[OPTIMUM]),
    }


def _through_store(trace: Trace, capacity: int, names: list[str], object_bytes: int) -> dict[str, StoreOutcome]:
    """Each policy, LRU and the online layer through a store of its own, at the smallest capacity."""
    import numpy as np

    from aura.tiers.replay.comparison import YARDSTICK
    from aura.tiers.replay.through_store import replay_online, replay_through_store

    if trace.sizes is None:
        trace = with_changes(trace, sizes=np.full(len(trace), object_bytes, dtype=np.int64))
        capacity *= object_bytes
    outcomes = {}
    for name in dict.fromkeys((YARDSTICK, *names)):
        with tempfile.TemporaryDirectory(prefix="aura-replay-") as directory:
            outcomes[name] = replay_through_store(
                Path(directory) / "store", trace, _made(name, capacity, float(trace.weights.mean()))
            )
    with tempfile.TemporaryDirectory(prefix="aura-replay-") as directory:
        outcomes[ONLINE] = replay_online(Path(directory) / "store", trace, capacity)
    return outcomes


def _made(name: str, capacity: int, object_bytes: float) -> Policy:
    from aura.tiers.replay.policies import make_policy

    return make_policy(name, capacity, object_bytes=object_bytes)


def _as_object(trace: Trace, rows: list[Row], outcomes: dict[str, StoreOutcome]) -> dict[str, object]:
    found: dict[str, object] = {
        "trace": trace.name,
        "accesses": len(trace),
        "objects": trace.unique,
        "footprint": trace.footprint,
        "unit": "objects" if trace.sizes is None else "bytes",
        "rows": [
            {
                "policy": row.policy,
                "capacity": row.capacity,
                "miss_ratio": row.outcome.miss_ratio,
                "gap_closed": row.gap_closed,
                "missed_bytes": row.outcome.missed_bytes,
                "admitted_bytes": row.outcome.admitted_bytes,
                "followed": row.followed,
                "cycle": row.cycle,
            }
            for row in rows
        ],
    }
    if outcomes:
        found["store"] = {
            name: {
                "accesses": outcome.accesses,
                "from_memory": outcome.from_memory,
                "mean_get_seconds": outcome.mean_get_seconds,
                "p99_get_seconds": outcome.p99_get_seconds,
                "moved_bytes": outcome.moved_bytes,
                "move_seconds": outcome.move_seconds,
                "refused": outcome.refused,
            }
            for name, outcome in outcomes.items()
        }
    return found


def _print(trace: Trace, rows: list[Row], outcomes: dict[str, StoreOutcome], capacity: int, object_bytes: int) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    console = Console()
    scale, unit = (1, "objects") if trace.sizes is None else (2**20, "MiB")
    table = Table(
        Column("policy", no_wrap=True),
        *(Column(name, justify="right") for name in (f"capacity {unit}", "miss ratio", "gap closed")),
        *(Column(name, justify="right") for name in (f"missed {unit}", f"brought in {unit}")),
        title=f"{trace.name}: {len(trace):,} accesses to {trace.unique:,} objects",
    )
    before = None
    for row in rows:
        if before not in (None, row.capacity):
            table.add_section()
        before = row.capacity
        admitted = row.outcome.admitted_bytes
        table.add_row(
            f"{row.policy}: {row.followed}" if row.followed else row.policy,
            f"{row.capacity / scale:,.0f}",
            f"{row.outcome.miss_ratio:.4f}",
            "" if row.gap_closed is None else f"{row.gap_closed:+.3f}",
            f"{row.outcome.missed_bytes / scale:,.0f}",
            "" if admitted is None else f"{admitted / scale:,.0f}",
        )
    console.print(table)
    mean = float(trace.weights.mean())
    for row in rows:
        if row.cycle is not None and row.capacity < row.cycle * mean:
            console.print(
                f"[yellow]warning[/] {row.capacity / scale:,.0f} {unit} are less than one cycle of {row.cycle:.0f} "
                f"accesses ({row.cycle * mean / scale:,.0f} {unit}): LRU evicts everything before it is read again."
            )
    if outcomes:
        _print_store(console, outcomes, capacity if trace.sizes is not None else capacity * object_bytes)


def _print_store(console: Console, outcomes: dict[str, StoreOutcome], capacity: int) -> None:
    from rich.table import Column, Table

    titles = ("mean get us", "p99 get us", "from memory", "moved MiB", "moves s", "refused")
    table = Table(
        Column("policy", no_wrap=True),
        *(Column(name, justify="right") for name in titles),
        title=f"Measured in a real store: {capacity / 2**20:,.1f} MiB of process memory, the rest in RocksDB",
    )
    for name, outcome in outcomes.items():
        table.add_row(
            name,
            f"{1e6 * outcome.mean_get_seconds:.2f}",
            f"{1e6 * outcome.p99_get_seconds:.1f}",
            f"{outcome.from_memory / outcome.accesses:.3f}",
            f"{outcome.moved_bytes / 2**20:,.1f}",
            f"{outcome.move_seconds:.2f}",
            str(outcome.refused),
        )
    console.print(table)
