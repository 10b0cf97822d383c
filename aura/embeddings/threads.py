"""Batches on all cores: one thread a core, each computing its own batch.

Belongs here: the order of results, the number of threads. Does not: what a batch is.

Inside one operation the threads of a pool wait for each other at its end, dozens of times a layer, and for as long as
something else on the machine holds one of them up. Batches are independent, so each core takes its own: decoding one
overlaps with computing another, a batch stays in the cache of its core, and its numbers depend neither on how many
cores there are nor on which one is first.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Batch = TypeVar("Batch")
Result = TypeVar("Result")

GPU_THREADS = 4
"""Threads that prepare batches for a GPU and wait for it."""

_one_at_a_time = threading.RLock()
"""How many threads an operation takes is set for the whole process, so two encodings cannot run beside each other."""


def in_threads(
    work: Callable[[Batch], Result],
    batches: Iterable[Batch],
    take: Callable[[Batch, Result], None],
    *,
    device: str,
) -> None:
    """Apply `work` to each batch, on as many threads as torch would use.

    Args:
        work: Runs in a thread in which torch is in inference mode and uses one core.
        batches: Taken as they are needed: two for each thread are under way.
        take: Called by the caller's thread with each batch and its result, in the order of the batches.
        device: The torch device that `work` computes on.
    """
    import torch

    def alone(batch: Batch) -> Result:
        with torch.inference_mode():
            return work(batch)

    with _one_at_a_time:
        before = torch.get_num_threads()
        threads = GPU_THREADS if device == "cuda" else before
        executor = ThreadPoolExecutor(threads, "encode", initializer=torch.set_num_threads, initargs=(1,))
        under_way: deque[tuple[Batch, Future[Result]]] = deque()
        waiting = iter(batches)
        try:
            under_way.extend((batch, executor.submit(alone, batch)) for batch in islice(waiting, 2 * threads))
            while under_way:
                batch, future = under_way.popleft()
                take(batch, future.result())
                under_way.extend((batch, executor.submit(alone, batch)) for batch in islice(waiting, 1))
        finally:
            executor.shutdown(cancel_futures=True)
            torch.set_num_threads(before)
