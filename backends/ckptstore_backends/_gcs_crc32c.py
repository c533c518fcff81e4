"""The checksum that GCS keeps of every object, as it writes it: base64 of the big-endian CRC32C."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator

_AT_ONCE_BYTES = 16 * 1024 * 1024


class RunningCRC32C:
    """The checksum of a stream."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, views: Iterable[memoryview]) -> None:
        """Add the bytes that follow."""
        import google_crc32c
        import numpy as np

        for view in views:
            if view.nbytes:
                self._value = google_crc32c.extend(self._value, np.frombuffer(view, np.uint8))

    def text(self) -> str:
        """Return it as GCS writes it."""
        return base64.b64encode(self._value.to_bytes(4, "big")).decode()


class Summed(RunningCRC32C):
    """A stream whose checksum is known once it has passed.

    Attributes:
        size_bytes: its length, None when it is not known.
    """

    def __init__(self, views: Iterable[memoryview], size_bytes: int | None) -> None:
        super().__init__()
        self._views = views
        self.size_bytes = size_bytes

    def __iter__(self) -> Iterator[memoryview]:
        for view in self._views:
            for start in range(0, view.nbytes, _AT_ONCE_BYTES):  # the first bytes shall not wait for the last
                piece = view[start : start + _AT_ONCE_BYTES]
                self.update([piece])
                yield piece


def crc32c_of(views: Iterable[memoryview]) -> str:
    """Return the checksum of some bytes as GCS writes it."""
    running = RunningCRC32C()
    running.update(views)
    return running.text()


def told_crc32c(header: str) -> str:
    """Return what an X-Goog-Hash header tells, "" when it tells none."""
    hashes = (entry.strip().partition("=") for entry in header.split(","))
    return next((value for name, _, value in hashes if name == "crc32c"), "")
