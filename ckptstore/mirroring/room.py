"""Memory that many transfers share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Room:
    """So much memory: whoever wants more than is left waits."""

    def __init__(self, size_bytes: int) -> None:
        self._all = self._free = size_bytes
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, size_bytes: int) -> Iterator[None]:
        """Hold so much of it, or all of it where it is less."""
        size_bytes = min(size_bytes, self._all)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size_bytes)
            self._free -= size_bytes
        try:
            yield
        finally:
            with self._changed:
                self._free += size_bytes
                self._changed.notify_all()
