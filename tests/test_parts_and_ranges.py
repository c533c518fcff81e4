"""How a stream is cut into parts, and how ranges become requests: pure planning, without any store."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from ckptstore.objects import ByteRange
from ckptstore_backends._parts import MAX_PARTS, part_sizes, regroup
from ckptstore_backends._ranges import RangeLimits, Span, coalesce, covering, opening

_MIB = 1024 * 1024

_SPANS = st.lists(st.builds(lambda start, size: Span(start, start + size), st.integers(0, 500), st.integers(0, 90)))
_LIMITS = st.builds(
    lambda gap, request: RangeLimits(gap_bytes=gap, request_bytes=request), st.integers(0, 20), st.integers(1, 60)
)


@given(st.lists(st.binary(max_size=30)), st.lists(st.integers(1, 12), min_size=1))
def test_parts_hold_the_stream_in_the_sizes_asked(buffers: list[bytes], sizes: list[int]) -> None:
    parts = list(regroup(map(memoryview, buffers), itertools.cycle(sizes)))
    assert b"".join(part.joined() for part in parts) == b"".join(buffers)
    *full, last = parts
    assert [part.size_bytes for part in full] == list(itertools.islice(itertools.cycle(sizes), len(full)))
    assert last.size_bytes <= sizes[len(full) % len(sizes)]
    assert [part.last for part in parts] == [False] * len(full) + [True]
    assert last.size_bytes > 0 or not full


def test_a_part_is_a_view_of_the_memory_that_was_given() -> None:
    memory = bytearray(10)
    first, last = regroup([memoryview(memory)], itertools.repeat(6))
    memory[:] = b"0123456789"
    assert (first.joined(), last.joined()) == (b"012345", b"6789")


def test_one_buffer_is_pulled_beyond_a_full_part() -> None:
    pulled = itertools.count()
    parts = regroup((memoryview(bytes(4)) for _ in pulled), itertools.repeat(8))
    assert next(parts).size_bytes == 8
    assert next(pulled) == 3


def test_parts_of_a_stream_grow_so_that_they_hold_the_largest_object() -> None:
    sizes = list(itertools.islice(part_sizes(16 * _MIB), MAX_PARTS))
    assert sizes[:128] == [16 * _MIB] * 128
    assert sizes[128] == 32 * _MIB
    assert sum(sizes) > 5 * 1024**4
    assert max(sizes) < 5 * 1024**3


def test_parts_of_a_known_length_are_equal_and_few_enough() -> None:
    assert next(part_sizes(16 * _MIB, 100 * _MIB)) == 16 * _MIB
    sizes = set(itertools.islice(part_sizes(16 * _MIB, 5 * 1024**4), MAX_PARTS))
    assert len(sizes) == 1
    assert sizes.pop() * MAX_PARTS >= 5 * 1024**4


def test_parts_stay_equal_where_a_server_wants_them_so() -> None:
    assert set(itertools.islice(part_sizes(8, grow=False), 1000)) == {8}


@given(_SPANS, _LIMITS)
def test_requests_are_disjoint_in_order_short_enough_and_cover_every_span(
    spans: list[Span], limits: RangeLimits
) -> None:
    requests = coalesce(spans, limits)
    assert all(0 < request.size_bytes <= limits.request_bytes for request in requests)
    assert all(earlier.stop <= later.start for earlier, later in itertools.pairwise(requests))
    for span in spans:
        pieces = [requests[index] for index in covering(span, requests)]
        held = {byte for piece in pieces for byte in range(piece.start, piece.stop)}
        assert held >= set(range(span.start, span.stop))


def test_near_spans_are_joined_and_far_ones_are_not() -> None:
    limits = RangeLimits(gap_bytes=5, request_bytes=100)
    assert coalesce([Span(40, 50), Span(0, 10), Span(15, 20)], limits) == [Span(0, 20), Span(40, 50)]
    assert coalesce([Span(0, 60), Span(62, 120)], limits) == [Span(0, 60), Span(62, 120)]
    assert coalesce([Span(0, 250)], limits) == [Span(0, 100), Span(100, 200), Span(200, 250)]


def test_the_first_request_needs_no_size() -> None:
    limits = RangeLimits(gap_bytes=5, request_bytes=100)
    assert opening([ByteRange(50, 10), ByteRange(62, 3), ByteRange(300, 5)], limits) == ByteRange(50, 15)
    assert opening([ByteRange(7, 0), ByteRange(20)], limits) == ByteRange(20, 100)
    assert opening([ByteRange(-30), ByteRange(0, 5)], limits) == ByteRange(-30)
    assert opening([ByteRange(-101)], limits) is None
    assert opening([ByteRange(3, 0)], limits) is None
