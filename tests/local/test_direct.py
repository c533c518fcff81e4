"""Long streams, written past the page cache where the disk lets them."""

from __future__ import annotations

import errno
import itertools
import os
import random

import pytest

from ckptstore.errors import (
    StoreError,
    StoreFull,
)
from ckptstore_backends import _local_direct, _local_draft, local
from tests.local.folders import everything

PAGE = 4096


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks that a test fills quickly; still whole pages."""
    monkeypatch.setattr(_local_direct, "BLOCK_BYTES", 4 * PAGE)
    monkeypatch.setattr(local, "BLOCK_BYTES", 4 * PAGE)
    monkeypatch.setattr(_local_direct, "PIECE_BYTES", 2 * PAGE)
    monkeypatch.setattr(_local_draft, "PIECE_BYTES", 2 * PAGE)


@pytest.fixture(params=["direct", "refused when asked for", "refused when used", "unknown here"])
def medium(request, monkeypatch):
    """Disks that writes may reach past the page cache, or not."""
    if request.param == "unknown here":
        monkeypatch.setattr(_local_direct, "_DIRECT", 0)
    elif request.param == "refused when asked for":
        monkeypatch.setattr(_local_draft, "bypass_cache", lambda *_, **__: False)
    elif request.param == "refused when used":
        pwrite = os.pwrite

        def refuse(descriptor, data, offset):
            if _local_direct.is_direct(descriptor):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return pwrite(descriptor, data, offset)

        monkeypatch.setattr(os, "pwrite", refuse)
    return request.param


_STREAMS = {
    "one block less a byte": [4 * PAGE - 1],
    "one block": [4 * PAGE],
    "two blocks and a byte": [8 * PAGE + 1],
    "many small": [1000] * 200,
    "many odd": [1, 0, 3 * PAGE + 7, 0, 9 * PAGE + 1, 5, 40 * PAGE],
}


@pytest.mark.parametrize("sizes", _STREAMS.values(), ids=_STREAMS)
def test_a_stream_is_written_whole_whatever_the_disk_can(store, small_blocks, medium, sizes):
    data = random.Random(0).randbytes(sum(sizes))
    starts = itertools.accumulate(sizes, initial=0)
    store.put("k", (bytearray(data[start : start + size]) for start, size in zip(starts, sizes, strict=False)))
    assert store.get("k") == data
    store.put("k", data[1:])
    assert store.get("k") == data[1:]


@pytest.mark.parametrize("size", [2 * PAGE - 1, 2 * PAGE, 3 * PAGE + 7, 4 * PAGE, 40 * PAGE + 1])
def test_a_buffer_is_written_whole_whatever_the_disk_can_and_wherever_it_lies(store, small_blocks, medium, size):
    data = memoryview(random.Random(0).randbytes(size + 1))
    store.put("created", data[1:], overwrite=False)
    store.put("put", data[:-1])
    assert store.get("created") == data[1:]
    assert store.get("put") == data[:-1]


def test_buffers_may_be_used_again_once_the_next_one_is_asked_for(store, small_blocks):
    def reused():
        buffer = bytearray(3 * PAGE)
        for number in range(20):
            buffer[:] = bytes([number]) * len(buffer)
            yield buffer

    store.put("k", reused())
    assert store.get("k") == b"".join(bytes([number]) * (3 * PAGE) for number in range(20))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_fails_in_the_middle_leaves_the_old_object_and_no_debris(store, small_blocks, monkeypatch, code):
    store.put("a/old", b"old")
    pwrite, asked = os.pwrite, []

    def fail(descriptor, data, offset):
        if offset >= 8 * PAGE:
            raise OSError(code, os.strerror(code))
        return pwrite(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", fail)

    def endless():
        for number in itertools.count():
            asked.append(number)
            yield bytes(PAGE)

    with pytest.raises(StoreFull if code == errno.ENOSPC else StoreError, match="a/old"):
        store.put("a/old", endless())
    assert len(asked) < 100
    assert bytes(store.get("a/old")) == b"old"
    assert everything(store.path("a").parent) == ["a", "a/old"]


def test_a_producer_that_raises_in_the_middle_leaves_the_old_object_and_no_debris(store, small_blocks):
    store.put("a/old", b"old")

    def broken():
        yield bytes(50 * PAGE)
        raise OSError(errno.ENOSPC, "of the producer")

    with pytest.raises(OSError, match="of the producer") as raised:
        store.put("a/old", broken())
    assert type(raised.value) is OSError
    assert bytes(store.get("a/old")) == b"old"
    assert everything(store.path("a").parent) == ["a", "a/old"]
