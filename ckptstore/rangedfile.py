"""Bytes that are read by ranges, as a file."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

from ckptstore.objects import Buffer, ByteRange

__all__ = ["RangedFile"]


class RangedFile(io.RawIOBase):
    """A seekable file, read in windows of which one is held.

    Args:
        read: returns the bytes of a range, as far as there are any.
        size_bytes: of all that there is.
        window_bytes: how much is read at once, unless more is asked for.
    """

    def __init__(self, read: Callable[[ByteRange], Buffer], size_bytes: int, window_bytes: int) -> None:
        self._read, self._size_bytes, self._window_bytes = read, size_bytes, window_bytes
        self._position, self._start, self._window = 0, 0, memoryview(b"")

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def seekable(self) -> bool:
        """Whether its position can be changed."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Change the position and return it."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size_bytes}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def readinto(self, target: Any) -> int:
        """Fill memory and return how many bytes came: fewer than it takes only at the end."""
        memory = memoryview(target).cast("B")
        data = self._held(memory.nbytes)
        memory[: data.nbytes] = data
        self._position += data.nbytes
        return data.nbytes

    def _held(self, size_bytes: int) -> memoryview:
        end = min(self._position + size_bytes, self._size_bytes)
        if not self._start <= self._position <= end <= self._start + self._window.nbytes:
            wanted = ByteRange(self._position, max(size_bytes, self._window_bytes))
            self._start, self._window = self._position, memoryview(self._read(wanted))
        return self._window[self._position - self._start :][:size_bytes]
