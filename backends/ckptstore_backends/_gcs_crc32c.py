"""The checksum that GCS keeps of every object, as it writes it: base64 of the big-endian CRC32C."""

from __future__ import annotations

import base64
from collections.abc import Iterable


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


def crc32c_of(views: Iterable[memoryview]) -> str:
    """Return the checksum of some bytes as GCS writes it."""
    running = RunningCRC32C()
    running.update(views)
    return running.text()


def told_crc32c(header: str) -> str:
    """Return what an X-Goog-Hash header tells, "" when it tells none."""
    hashes = (entry.strip().partition("=") for entry in header.split(","))
    return next((value for name, _, value in hashes if name == "crc32c"), "")
