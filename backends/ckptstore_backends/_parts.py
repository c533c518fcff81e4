"""Cut a stream of buffers into parts for a multipart upload, without copying."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ckptstore.objects import Buffer

MIB = 1024 * 1024

MAX_PARTS = 10_000
"""S3 and the XML interface of GCS take no more parts in one upload."""

_PARTS_PER_SIZE = 128


@dataclass(frozen=True, slots=True)
class Part:
    """One part of an upload.

    Attributes:
        views: its bytes, in order; slices of the buffers that were given.
        last: no part follows.
    """

    views: tuple[memoryview, ...]
    last: bool

    @property
    def size_bytes(self) -> int:
        """The length of the part."""
        return sum(view.nbytes for view in self.views)

    def joined(self) -> Buffer:
        """Return the bytes in one piece; a copy."""
        return b"".join(self.views)


def part_sizes(first_bytes: int, total_bytes: int | None = None, *, grow: bool = True) -> Iterator[int]:
    """Yield the size of each part, for ever.

    Parts of a known total are equal and few enough for one upload. Otherwise, 128 at a time grow by the first
    size: from 16 MiB, 10,000 parts hold 6 TiB, more than the 5 TiB that an object may have.
    """
    if total_bytes is not None:
        first_bytes = max(first_bytes, -(-total_bytes // MAX_PARTS))
        grow = False
    number = 0
    while True:
        yield first_bytes * (1 + number // _PARTS_PER_SIZE if grow else 1)
        number += 1


def regroup(buffers: Iterable[memoryview], sizes: Iterator[int]) -> Iterator[Part]:
    """Yield the stream as parts of the given sizes; the last may be shorter, and is empty for an empty stream.

    A part is yielded as soon as it is known whether another follows: one buffer is pulled ahead.
    """
    views: list[memoryview] = []
    room = next(sizes)
    for buffer in buffers:
        rest = buffer
        while rest.nbytes:
            if room == 0:
                yield Part(tuple(views), last=False)
                views, room = [], next(sizes)
            views.append(rest[:room])
            room -= views[-1].nbytes
            rest = rest[views[-1].nbytes :]
    yield Part(tuple(views), last=True)
