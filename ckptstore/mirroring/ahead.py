"""Pull an iterator in a thread of its own, so that waiting for one side overlaps with work on the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any, TypeVar

_T = TypeVar("_T")
_END: Any = object()


def ahead(items: Generator[_T], room: int) -> Generator[_T]:
    """Yield the items, of which up to so many are pulled before they are asked for.

    Nothing is pulled before the first ``next``. Closing this closes the generator; what it raises comes out here.
    """
    pending: deque[Future[_T]] = deque()
    with closing(items), ThreadPoolExecutor(1, "ckptstore mirror ahead") as thread:
        try:
            pending.extend(thread.submit(next, items, _END) for _ in range(room))
            while (item := pending.popleft().result()) is not _END:
                pending.append(thread.submit(next, items, _END))
                yield item
        finally:
            for future in pending:
                future.cancel()
