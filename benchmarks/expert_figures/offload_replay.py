"""The rule by which the planned mode chooses what leaves, replayed on a trace of routes.

Belongs here: the misses of that rule alone, with no prefetch and no kinds of prompts. Does not: the rule
(`aura.experts.offload.waits`), reading traces (`aura.tiers.replay.readers`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from aura.experts.offload.waits import Waits
from aura.tiers.replay.policy import Outcome
from aura.tiers.replay.readers import LAYER_SHIFT
from aura.tiers.replay.trace import Trace


def replay_waits(trace: Trace, capacity: int) -> Outcome:
    """Decode a trace token by token as the planned mode does.

    Layer by layer, what is not held is brought in place of the expert that waits longest, those of the layer left out;
    where there is no other, it is used in passing.

    Args:
        trace: Of decoding, keys `layer << 32 | expert`, all of one size.
        capacity: Experts that are held, at most.
    """
    layers, experts = (int(part.max()) + 1 for part in (trace.ids >> LAYER_SHIFT, trace.ids & (1 << LAYER_SHIFT) - 1))
    waits = Waits([experts] * layers)
    held = np.zeros(layers * experts, dtype=np.bool_)
    sizes = np.ones(len(held), dtype=np.int64)
    hits = admitted = 0
    for layer, chosen in _steps(trace):
        numbers = layer * experts + np.array(chosen)
        waits.learn(layer, 1, chosen, [1] * len(chosen))
        missing = numbers[~held[numbers]]
        hits += len(chosen) - len(missing)
        for number in missing.tolist():
            can_leave = held.copy()
            can_leave[numbers] = False
            leaving = waits.victims(layer, can_leave, sizes, int(held.sum()) + 1 - capacity)
            if leaving is not None:
                held[leaving] = False
                held[number] = True
                admitted += 1
    return Outcome(len(trace), hits, len(trace), len(trace) - hits, admitted)


def _steps(trace: Trace) -> Iterator[tuple[int, list[int]]]:
    """Layers in the order in which they were computed, each with the experts of one token."""
    layer, chosen = -1, list[int]()
    for key in trace.ids.tolist():
        own, expert = key >> LAYER_SHIFT, key & (1 << LAYER_SHIFT) - 1
        if own != layer or expert in chosen:
            if chosen:
                yield layer, chosen
            layer, chosen = own, []
        chosen.append(expert)
    if chosen:
        yield layer, chosen
