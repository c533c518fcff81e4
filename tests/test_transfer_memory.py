"""How much memory a transfer may take."""

from __future__ import annotations

import pytest

from ckptstore.store import open_store
from ckptstore_backends._memory import DEFAULT_BYTES, at_once, memory_of
from ckptstore_backends._parts import MIB
from ckptstore_backends._ranges import RangeLimits
from ckptstore_backends.s3 import S3Store


def test_reading_keeps_to_its_memory():
    assert RangeLimits.within(DEFAULT_BYTES) == RangeLimits()
    small = RangeLimits.within(16 * MIB)
    assert (small.window_bytes, small.request_bytes) == (16 * MIB, 2 * MIB)


@pytest.mark.parametrize(
    ("wanted", "part_mib", "memory_mib", "expected"),
    [(4, 16, 128, 4), (8, 16, 128, 7), (4, 16, 64, 3), (4, 16, 16, 1), (4, 200, 128, 1), (1, 16, 4096, 1)],
)
def test_as_many_parts_are_under_way_as_there_is_memory_for(wanted, part_mib, memory_mib, expected):
    assert at_once(wanted, part_mib * MIB, memory_mib * MIB) == expected


def test_the_default_has_room_for_the_concurrency_that_was_asked_for():
    assert memory_of({}) == memory_of({"max_concurrency": 4}) == 128 * MIB
    assert at_once(20, 16 * MIB, memory_of({"max_concurrency": 20})) == 20
    assert memory_of({"max_concurrency": 20, "memory_bytes": 32 * MIB}) == 32 * MIB


@pytest.mark.parametrize("given", [1, 0, -1, True, "128MiB", None, 1e9])
@pytest.mark.parametrize("url", ["s3://bucket/x", "gs://bucket/x"])
def test_a_size_that_is_none_is_refused_when_the_store_is_opened(url, given):
    with pytest.raises(ValueError, match=r"memory_bytes is .*; give at least 16777216"):
        open_store(url, memory_bytes=given)


def test_large_objects_move_within_little_memory(s3_url, s3_options):
    with S3Store.from_url(s3_url, **s3_options, memory_bytes=16 * MIB) as store:
        data = bytes(range(256)) * (40 * 4096)
        store.put("k", (data[start : start + 1_000_003] for start in range(0, len(data), 1_000_003)))
        assert bytes(store.get("k")) == data
