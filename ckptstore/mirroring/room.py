"""Memory that many transfers share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Room:
    """So much memory: whoever wants more than is left waits."""

    def __init__(self, size_bytes: int) -> None:
        self._all = self._free = size_bytes
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, size_bytes: int) -> Iterator[Callable[[int], None]]:
        """Hold so much of it, or all of it where it is less; call what is yielded to go on with less."""
        held = min(size_bytes, self._all)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= held)
            self._free -= held

        def keep(still_bytes: int) -> None:
            nonlocal held
            still_bytes = min(still_bytes, held)
            self._give_back(held - still_bytes)
            held = still_bytes

        try:
            yield keep
        finally:
            keep(0)

    def _give_back(self, size_bytes: int) -> None:
        with self._changed:
            self._free += size_bytes
            self._changed.notify_all()
