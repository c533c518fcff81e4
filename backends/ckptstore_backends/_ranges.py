"""Plan which requests fetch a set of byte ranges: near ones together, long ones in pieces."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

from ckptstore.objects import ByteRange


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Bytes from `start` up to, and without, `stop`."""

    start: int
    stop: int

    @property
    def size_bytes(self) -> int:
        """The length."""
        return self.stop - self.start

    def outside(self, other: Span) -> tuple[Span, Span]:
        """Return what lies before and what lies after another span; either may be empty."""
        before = Span(self.start, max(self.start, min(self.stop, other.start)))
        after = Span(min(self.stop, max(self.start, other.stop)), self.stop)
        return before, after


@dataclass(frozen=True, slots=True)
class RangeLimits:
    """How ranges become requests.

    Attributes:
        gap_bytes: ranges no further apart than this share a request: reading the gap costs less than asking.
        request_bytes: no request asks for more.
        window_bytes: how much may be under way or waiting to be consumed, where one request is always allowed.
        requests: how many requests may be under way.
    """

    gap_bytes: int = 512 * 1024
    request_bytes: int = 16 * 1024 * 1024
    window_bytes: int = 128 * 1024 * 1024
    requests: int = 16

    @classmethod
    def within(cls, memory_bytes: int) -> RangeLimits:
        """Return the limits that keep to so much memory."""
        usual = cls()
        return replace(usual, window_bytes=memory_bytes, request_bytes=min(usual.request_bytes, memory_bytes // 8))


def coalesce(spans: Iterable[Span], limits: RangeLimits) -> list[Span]:
    """Return disjoint spans, in order, that cover the given ones: one request each."""
    joined: list[Span] = []
    for span in sorted(span for span in spans if span.size_bytes):
        if joined and _belong_together(joined[-1], span, limits):
            joined[-1] = Span(joined[-1].start, max(joined[-1].stop, span.stop))
        else:
            joined.append(span)
    return [piece for span in joined for piece in split(span, limits.request_bytes)]


def _belong_together(earlier: Span, later: Span, limits: RangeLimits) -> bool:
    if later.start < earlier.stop:
        return True
    return later.start - earlier.stop <= limits.gap_bytes and later.stop - earlier.start <= limits.request_bytes


def split(span: Span, size_bytes: int) -> Iterator[Span]:
    """Yield a span in pieces of a size; the last may be shorter."""
    for start in range(span.start, span.stop, size_bytes):
        yield Span(start, min(span.stop, start + size_bytes))


def covering(span: Span, requests: Sequence[Span]) -> list[int]:
    """Return the indexes of those requests, disjoint and in order, that hold the bytes of a span."""
    if not span.size_bytes:
        return []
    index = bisect_right(requests, span.start, key=attrgetter("start")) - 1
    found = []
    while index < len(requests) and requests[index].start < span.stop:
        found.append(index)
        index += 1
    return found


def opening(ranges: Sequence[ByteRange], limits: RangeLimits) -> ByteRange | None:
    """Return the request to begin with, while the size of the object is unknown.

    It fetches the first range that is not empty, with its neighbours. None: when there is no such range, or
    when it is a suffix longer than one request.
    """
    first = next((wanted for wanted in ranges if wanted.length != 0), None)
    if first is None or first.start < -limits.request_bytes:
        return None
    if first.start < 0:
        return first
    known = [_provisional(wanted, limits) for wanted in ranges if wanted.start >= 0]
    requests = coalesce(known, limits)
    found = requests[covering(_provisional(first, limits), requests)[0]]
    return ByteRange(found.start, found.size_bytes)


def _provisional(wanted: ByteRange, limits: RangeLimits) -> Span:
    length = limits.request_bytes if wanted.length is None else wanted.length
    return Span(wanted.start, wanted.start + length)
