"""Cut content into the pieces that are compressed one by one, so that each holds elements of one size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["BLOCK_BYTES", "Piece", "Segment", "lay_out", "uniform"]

BLOCK_BYTES = 1024 * 1024
"""How much is read and decompressed for the smallest tensor; larger blocks hardly compress better."""

_SMALL_BYTES = 16 * 1024
"""Less than this has no block of its own between others: it goes with its neighbour, whatever the element size."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Where elements of one size begin.

    Attributes:
        start: offset in the content; what follows, up to the next segment, is of this kind.
        width: bytes of one element, 1, 2, 4 or 8; None where it is not known: tried out when it is compressed.
    """

    start: int
    width: int | None


@dataclass(frozen=True, slots=True)
class Piece:
    """A block to be.

    Attributes:
        start: offset in the content.
        size_bytes: its length.
        width: see `Segment`.
    """

    start: int
    size_bytes: int
    width: int | None


def uniform(size_bytes: int) -> list[Piece]:
    """Return the pieces of content of which nothing is known but its length."""
    return list(_pieces(0, size_bytes, None))


def lay_out(segments: Iterable[Segment], *, tail_start: int, size_bytes: int) -> list[Piece]:
    """Return the pieces of content whose elements are known.

    Args:
        segments: in order, the first at 0.
        tail_start: where that begins which is to be read alone, at the end.
        size_bytes: the length of the content.
    """
    runs = _joined([segment for segment in segments if segment.start < tail_start], tail_start)
    stops = [run.start for run in runs[1:]] + [tail_start]
    cut = [piece for run, stop in zip(runs, stops, strict=True) for piece in _pieces(run.start, stop, run.width)]
    return [*cut, *_pieces(tail_start, size_bytes, 1)]


def _joined(segments: list[Segment], stop: int) -> list[Segment]:
    """Return segments without those that are small or like the one before."""
    runs: list[Segment] = []
    ends = [segment.start for segment in segments[1:]] + [stop]
    for segment, end in zip(segments, ends, strict=True):
        if runs and segment.start - runs[-1].start < _SMALL_BYTES:
            runs[-1] = Segment(runs[-1].start, segment.width)
        elif not runs or (segment.width != runs[-1].width and end - segment.start >= _SMALL_BYTES):
            runs.append(segment)
    return runs


def _pieces(start: int, stop: int, width: int | None) -> Iterator[Piece]:
    for offset in range(start, stop, BLOCK_BYTES):
        yield Piece(offset, min(BLOCK_BYTES, stop - offset), width)
