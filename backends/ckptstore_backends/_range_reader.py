"""Read byte ranges of one version of an object, in parallel and in bounded memory, over any client."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

from ckptstore.errors import StoreUnavailable
from ckptstore.objects import ByteRange
from ckptstore_backends._loop_thread import result_of
from ckptstore_backends._ranges import RangeLimits, Span, coalesce, covering, opening
from ckptstore_backends._transfer import Chunk, RangePastEnd, Source


def read_ranges(source: Source, ranges: Sequence[ByteRange], limits: RangeLimits) -> Iterator[memoryview]:
    """Yield the bytes of each range in the order asked; closing the iterator cancels what is under way.

    Nothing is requested before the first ``next``. The first answer tells size and version; all further
    requests are for that version.
    """
    if not ranges:
        return
    first = _open(source, ranges, limits)
    spans = [Span(*wanted.within(first.total_bytes)) for wanted in ranges]
    reading = _Reading(source, first, spans, limits)
    try:
        for span in spans:
            yield reading.take(span)
    finally:
        reading.cancel()


def _open(source: Source, ranges: Sequence[ByteRange], limits: RangeLimits) -> Chunk:
    wanted = opening(ranges, limits)
    if wanted is None:
        return source.head()
    try:
        return result_of(source.fetch(wanted))
    except RangePastEnd:
        if wanted.start <= 0:  # only an empty object has no first and no last byte
            return Chunk(memoryview(b""), start=0, total_bytes=0, version="")
        return source.head()


class _Reading:
    """The requests of one reading: what is still to be asked, what is under way, what waits for its last use."""

    def __init__(self, source: Source, first: Chunk, spans: Sequence[Span], limits: RangeLimits) -> None:
        self._source = source.pinned(first.version)
        self._limits = limits
        held = Span(first.start, first.start + first.data.nbytes)
        self._requests = _requests(held, spans, limits)
        needs = [index for span in spans for index in covering(span, self._requests)]
        self._uses = Counter(needs)
        self._waiting = deque(dict.fromkeys(needs))
        self._chunks: dict[int, Future[Chunk]] = {}
        self._claim(held, first)

    def take(self, span: Span) -> memoryview:
        """Return the bytes of the next span."""
        indexes = covering(span, self._requests)
        if len(indexes) == 1:
            return self._slice(indexes[0], span)
        import numpy as np  # most reads gather nothing, and need not wait for it

        gathered = np.empty(span.size_bytes, np.uint8)  # a bytearray would be filled with zeros first
        filled = 0
        for index in indexes:
            piece = np.frombuffer(self._slice(index, span), np.uint8)
            np.copyto(gathered[filled : filled + piece.size], piece)  # lets the other threads run meanwhile
            filled += piece.size
        return gathered.data

    def cancel(self) -> None:
        """Give up what is under way."""
        for future in self._chunks.values():
            future.cancel()
        self._chunks.clear()

    def _claim(self, held: Span, first: Chunk) -> None:
        if not held.size_bytes:
            return
        index = self._requests.index(held)
        self._chunks[index] = Future()
        self._chunks[index].set_result(first)
        if index in self._waiting:
            self._waiting.remove(index)

    def _slice(self, index: int, span: Span) -> memoryview:
        self._ask(index)
        chunk = self._chunks[index].result()
        self._uses[index] -= 1
        if not self._uses[index]:
            del self._chunks[index]
        request = self._requests[index]
        wanted = Span(max(span.start, request.start), min(span.stop, request.stop))
        begins = wanted.start - chunk.start
        piece = chunk.data[max(0, begins) : wanted.stop - chunk.start]
        if begins < 0 or piece.nbytes != wanted.size_bytes:
            raise StoreUnavailable(
                f"the store sent other bytes than {request.start} to {request.stop}; try again, or ask its operator"
            )
        return piece

    def _ask(self, needed: int) -> None:
        """Have the needed request under way, and as many after it as the window allows."""
        while self._waiting and (needed not in self._chunks or self._has_room(self._waiting[0])):
            index = self._waiting.popleft()
            request = self._requests[index]
            self._chunks[index] = self._source.fetch(ByteRange(request.start, request.size_bytes))

    def _has_room(self, index: int) -> bool:
        held = sum(self._requests[held].size_bytes for held in self._chunks)
        fits = held + self._requests[index].size_bytes <= self._limits.window_bytes
        return fits and len(self._chunks) < self._limits.requests


def _requests(held: Span, spans: Sequence[Span], limits: RangeLimits) -> list[Span]:
    before, after = zip(*(span.outside(held) for span in spans), strict=True)
    own = [held] if held.size_bytes else []
    return [*coalesce(before, limits), *own, *coalesce(after, limits)]
