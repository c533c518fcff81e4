"""Memory of one size that is used again and again: fresh pages cost as much as the copy into them."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Buffers:
    """Lends buffers, to many threads at once; as many exist as were lent at a time.

    They lie outside the heap, which keeps what each thread has freed.

    Args:
        size_bytes: of each.
    """

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._free: list[memoryview] = []

    @contextmanager
    def lent(self) -> Iterator[memoryview]:
        """Lend one. It is not used again after an error: a request that failed may still be reading it."""
        buffer = self._taken()
        yield buffer
        self._free.append(buffer)

    def clear(self) -> None:
        """Give back to the system what is not lent."""
        self._free.clear()

    def _taken(self) -> memoryview:
        with suppress(IndexError):
            return self._free.pop()
        return memoryview(mmap.mmap(-1, self._size_bytes))
