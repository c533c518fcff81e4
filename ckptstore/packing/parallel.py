"""Do the same to many things in threads, a few ahead, and give the results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

__all__ = ["default_workers", "in_order"]

T = TypeVar("T")
R = TypeVar("R")

_MOST_WORKERS = 16


def default_workers() -> int:
    """Return how many threads compress: one for each core that this process may use."""
    return min(
        _MOST_WORKERS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )


def in_order(function: Callable[[T], R], items: Iterable[T], *, workers: int) -> Iterator[R]:
    """Yield what a function makes of each item, in order; at most two for each worker are under way.

    Items are pulled in the thread that iterates. Closing the iterator gives up the rest.
    """
    source = iter(items)
    first = list(islice(source, 2))
    if len(first) < 2 or workers < 2:
        yield from map(function, chain(first, source))
        return
    with ThreadPoolExecutor(workers, "ckptstore-blocks") as pool:
        yield from _pooled(pool, function, chain(first, source), 2 * workers)


def _pooled(pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterator[T], ahead: int) -> Iterator[R]:
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
