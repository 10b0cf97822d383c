"""Computation with torch that gives the same bits each time on one machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.utils.deterministic  # noqa: TID253 - sets torch's own switches; nothing light imports this module


@contextmanager
def reproducible(threads: int) -> Iterator[None]:
    """Deterministic algorithms, a fixed number of CPU threads and a generator of one's own; all restored at the end.

    Fresh memory is not filled: nothing here reads what it has not written, and filling took a tenth of a training step.
    """
    threads_before = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    # torch swaps this module for an object of a class of its own, which annotations do not know.
    memory: Any = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory
    with torch.random.fork_rng(devices=[]):
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(mode=True)
        memory.fill_uninitialized_memory = False
        try:
            yield
        finally:
            torch.set_num_threads(threads_before)
            torch.use_deterministic_algorithms(mode=deterministic, warn_only=warn_only)
            memory.fill_uninitialized_memory = fill
