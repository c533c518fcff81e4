"""The bytes of one version of an object as a stream, in bounded memory, and what a check makes of them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import TypeAlias

from ckptstore.errors import CorruptCheckpoint
from ckptstore.store import ByteRange, ObjectInfo, Store

__all__ = ["Checked", "CheckedObject", "drained", "streamed", "whole"]

Checked: TypeAlias = Generator[memoryview, None, str]
"""Yields the bytes of an object in order, raises CorruptCheckpoint by its end when they are not what was written, and
returns why they could not be checked, "" where they were."""

_CHUNK_BYTES = 4 * 1024 * 1024
_WINDOW_BYTES = 32 * 1024 * 1024
"""What is asked for at once: a store may hold all of it in memory."""


def streamed(store: Store, info: ObjectInfo, start: int = 0, stop: int | None = None) -> Iterator[memoryview]:
    """Yield the bytes of an object between two offsets.

    Raises:
        CorruptCheckpoint: there are fewer than the store says.
        ObjectChanged: it is no longer of that version.
    """
    end = info.size_bytes if stop is None else stop
    for first in range(start, end, _WINDOW_BYTES):
        last = min(end, first + _WINDOW_BYTES)
        ranges = [ByteRange(at, min(_CHUNK_BYTES, last - at)) for at in range(first, last, _CHUNK_BYTES)]
        parts = store.get_ranges(info.key, ranges, version=info.version)
        for wanted, data in zip(ranges, parts, strict=True):
            if len(data) != wanted.length:
                raise CorruptCheckpoint(f"{len(data)} bytes came at {wanted.start} where {wanted.length} should be")
            yield data


def whole(store: Store, info: ObjectInfo) -> bytes:
    """Return the bytes of a small object."""
    return b"".join(streamed(store, info))


def drained(checked: Checked, advance: Callable[[int], None]) -> str:
    """Run a check to its end and return why the bytes could not be checked, "" where they were.

    Args:
        checked: the check.
        advance: is told how many bytes went by.
    """
    with closing(checked):
        while True:
            try:
                advance(len(next(checked)))
            except StopIteration as end:
                return str(end.value or "")


class CheckedObject:
    """A body to put that is checked while it goes by: what is unsound, or cannot be checked, is not published."""

    def __init__(self, checked: Callable[[], Checked], size_bytes: int) -> None:
        self._checked = checked
        self.size_bytes = size_bytes

    def __iter__(self) -> Iterator[memoryview]:
        unsealed = yield from self._checked()
        if unsealed:
            raise CorruptCheckpoint(unsealed)
