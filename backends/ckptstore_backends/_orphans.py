"""Uploads that a server began and whose answer was lost: nobody was told their names."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

REPEATED_AFTER_S = 0.5
"""A request to begin that was answered sooner was sent once: an upload's client pauses for this long before."""

_UNDER_WAY: Counter[tuple[str, str]] = Counter()
_LOCK = threading.Lock()


@dataclass
class Beginning:
    """What is known of how an upload was begun.

    Attributes:
        asked_at: when, by the monotonic clock.
        doubtful: whether there may be uploads that were begun for it and that nobody was told of.
    """

    asked_at: float = field(default_factory=time.monotonic)
    doubtful: bool = False

    def answered(self) -> None:
        """Note the answer that names the upload."""
        self.doubtful = self.doubtful or time.monotonic() - self.asked_at >= REPEATED_AFTER_S


@contextmanager
def watched(address: tuple[str, str], remove: Callable[[float], None]) -> Iterator[Beginning]:
    """Watch one upload from its beginning to its end, and have removed what may be left of a doubtful beginning.

    Args:
        address: of the object. What other uploads of it in this process have begun is theirs, so nothing is removed
            while there are some.
        remove: is given how many seconds ago the first beginning was asked for.
    """
    with _LOCK:
        _UNDER_WAY[address] += 1
    first, beginning = time.monotonic(), Beginning()
    try:
        yield beginning
    finally:
        with _LOCK:
            _UNDER_WAY[address] -= 1
            alone = not _UNDER_WAY[address]
            if alone:
                del _UNDER_WAY[address]
        if alone and beginning.doubtful:
            remove(time.monotonic() - first)


@contextmanager
def unwatched(_key: str) -> Iterator[Beginning]:
    """Do nothing, where a beginning that is lost leaves nothing, or nothing that could be found."""
    yield Beginning()
