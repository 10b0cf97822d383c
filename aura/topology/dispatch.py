"""Which engines to try on an input, in which order, and why.

Belongs here: the choice between engines. Does not: running them (`aura.topology.process`), taking landmarks
(`aura.topology.persistence`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from aura.topology.engines.alpha import MOST_COORDINATES
from aura.topology.engines.task import Engine, Kind
from aura.topology.memory import RIPS_BYTES_A_SECOND, Size, predicted_bytes
from aura.topology.outlook import (
    FEWEST_ITEMS,
    Outlook,
    rips_cpu_seconds,
    simplex_tree_cpu_seconds,
    spanning_tree_cpu_seconds,
)
from aura.topology.process import Caps

BOX = 0.5
"""A first attempt may take this many times what the second engine is predicted to take..."""
BOX_SECONDS = 1.0
"""... and this much in any case."""
START_SECONDS = 1.0
"""CPU time that loading scikit-learn takes at least, without which the implicit reduction does not start; 2 to 4 s were
measured."""
DOUBT = 4.0
"""Factor by which predictions of the implicit reduction may be wrong: what is within it of the caps is tried."""


@dataclass(frozen=True)
class Candidate:
    """An engine to try.

    Attributes:
        engine: Which.
        reason: Why it is tried at this place, in a sentence.
        caps: What it may use.
        predicted_bytes: Memory that it will take.
        predicted_seconds: CPU time that it will take; 0 where there is no model.
    """

    engine: Engine
    reason: str
    caps: Caps
    predicted_bytes: int
    predicted_seconds: float = 0.0

    @property
    def objection(self) -> str | None:
        """Why it should not be started, as the predictions say; None where they say nothing."""
        # What sparse Vietoris-Rips leaves out cannot be foreseen: nothing, in the worst case.
        doubt = {Engine.RIPS: DOUBT, Engine.SPARSE_RIPS: math.inf}.get(self.engine, 1.0)
        if self.predicted_bytes > doubt * self.caps.memory_bytes:
            return f"not started: predicted {self.predicted_bytes} bytes, limit {self.caps.memory_bytes}"
        if self.predicted_seconds > DOUBT * self.caps.cpu_seconds:
            return f"not started: predicted {self.predicted_seconds:.0f} s CPU, limit {self.caps.cpu_seconds:g} s"
        return None


def chosen(engine: Engine, size: Size, max_dimension: int, caps: Caps) -> Candidate:
    """The engine that the caller asked for."""
    return Candidate(engine, "The caller asked for it.", caps, predicted_bytes(engine, size, max_dimension))


def without_landmarks(size: Size, max_dimension: int, caps: Caps, *, metric: str, allow_gpl: bool) -> Candidate | None:
    """The engine that computes all of an input at nearly linear cost; None where there is none."""
    if size.kind is Kind.IMAGE:
        engine, reason = Engine.CUBICAL, "An image has a cubical complex."
    elif max_dimension == 0:
        engine, reason = Engine.SPANNING_TREE, "Components alone end at the weights of a minimum spanning tree."
    elif allow_gpl and size.kind is Kind.POINTS and metric == "euclidean" and size.coordinates <= MOST_COORDINATES:
        engine = Engine.ALPHA
        reason = f"With {size.coordinates} coordinates the alpha filtration is linear, and CGAL's licence is accepted."
    else:
        return None
    seconds = spanning_tree_cpu_seconds(size) if engine is Engine.SPANNING_TREE else 0.0
    return Candidate(engine, reason, caps, predicted_bytes(engine, size, max_dimension), seconds)


def vietoris_rips(size: Size, max_dimension: int, caps: Caps, outlook: Outlook | None) -> list[Candidate]:
    """The engines of the Vietoris-Rips filtration in the order in which to try them.

    The implicit reduction comes first unless it is predicted to take longer than the explicit complex, and that fits
    the memory, or the items are few. A first attempt that another engine can follow is boxed in time.

    Args:
        size: Of the input.
        max_dimension: Highest dimension of homology.
        caps: For every attempt.
        outlook: What the distances look like; None for graphs.
    """
    known = outlook is not None and size.items >= FEWEST_ITEMS and max_dimension <= 1
    implicit = rips_cpu_seconds(outlook) if outlook is not None and known else 0.0
    rips = predicted_bytes(Engine.RIPS, size, max_dimension) + math.ceil(RIPS_BYTES_A_SECOND * implicit)
    tree = predicted_bytes(Engine.SIMPLEX_TREE, size, max_dimension)
    if tree > caps.memory_bytes:
        reason = f"Explicit simplices may take {tree / 2**20:.0f} MiB, more than the memory limit."
        return [Candidate(Engine.RIPS, reason, caps, rips, implicit)]
    explicit = simplex_tree_cpu_seconds(size, max_dimension)
    if size.items < FEWEST_ITEMS and explicit <= START_SECONDS:
        reason = "Few items: the explicit complex takes less than loading the library of the implicit reduction."
        return [Candidate(Engine.SIMPLEX_TREE, reason, caps, tree, explicit)]
    boxed = Caps(min(caps.cpu_seconds, BOX_SECONDS + BOX * explicit), caps.memory_bytes)
    followed = Candidate(Engine.SIMPLEX_TREE, "The implicit reduction passed its caps.", caps, tree, explicit)
    if outlook is None or not known:
        return [Candidate(Engine.RIPS, "The implicit reduction is the fast one on most inputs.", boxed, rips), followed]
    seen = (
        f"distances vary by {outlook.spread:.1%}, single points explain {outlook.additivity:.0%} of that, and the"
        f" enclosing radius is {outlook.reach:.1f} deviations above their mean"
    )
    if implicit <= explicit:
        return [Candidate(Engine.RIPS, f"Structure: {seen}.", boxed, rips, implicit), followed]
    return [Candidate(Engine.SIMPLEX_TREE, f"No structure: {seen}.", caps, tree, explicit)]
