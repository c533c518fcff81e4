"""How much memory a transfer may take."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Lock

import pytest

from ckptstore.store import open_store
from ckptstore_backends import _parts
from ckptstore_backends._memory import DEFAULT_BYTES, at_once, memory_of
from ckptstore_backends._parts import MIB
from ckptstore_backends._ranges import RangeLimits
from ckptstore_backends._s3_transfer import UploadLimits
from ckptstore_backends.s3 import S3Store
from tests.proxy import Fault, proxy_to

_THROUGH_S3FS = {"s3_additional_kwargs": {"StorageClass": "STANDARD"}}  # which obstore cannot give


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


@dataclass(frozen=True, slots=True)
class _Weighed(Fault):
    """Let the parts of an upload through slowly, and weigh what is under way together."""

    scales: Scales

    def act(self, link):
        with self.scales.holding(len(link.request.body)):
            link.ended.wait(0.1)
            link.answer(link.forward())


class Scales:
    """How much lay on them at most."""

    def __init__(self):
        self.most = self._now = 0
        self._lock = Lock()

    @contextmanager
    def holding(self, size_bytes):
        """Have so much more on them."""
        with self._lock:
            self._now += size_bytes
            self.most = max(self.most, self._now)
        yield
        with self._lock:
            self._now -= size_bytes


def test_fewer_parts_are_under_way_through_s3fs_when_they_grow(s3_url, s3_options, monkeypatch):
    monkeypatch.setattr(_parts, "_PARTS_PER_SIZE", 2)
    scales = Scales()
    with (
        proxy_to(s3_options["endpoint_url"]) as proxy,
        S3Store.from_url(s3_url, **{**s3_options, **_THROUGH_S3FS, "endpoint_url": proxy.url}) as store,
    ):
        store._s3fs.limits = UploadLimits(part_bytes=5 * MIB, memory_bytes=20 * MIB)
        proxy.faults = [_Weighed(scales, target="^PUT ", nth=None)]
        store.put("k", iter([bytes(5 * MIB)] * 9))
        sizes = [len(request.body) // MIB for request in proxy.requests if request.start.startswith("PUT ")]
        assert sorted(sizes) == [5, 5, 10, 10, 15]
        assert scales.most <= 20 * MIB


@pytest.mark.parametrize("fixed", [True, False])
def test_parts_of_a_known_length_are_alike_through_s3fs(s3_url, s3_options, monkeypatch, fixed):
    monkeypatch.setattr(_parts, "_PARTS_PER_SIZE", 1)
    monkeypatch.setattr(_parts, "MAX_PARTS", 3)
    options = {**s3_options, **_THROUGH_S3FS, "fixed_upload_size": fixed}
    with proxy_to(options["endpoint_url"]) as proxy:
        with S3Store.from_url(s3_url, **{**options, "endpoint_url": proxy.url}) as store:
            store._s3fs.limits = replace(store._s3fs.limits, part_bytes=5 * MIB)
            store.put("k", Sized([bytes(6 * MIB)] * 4))
        sizes = [len(request.body) // MIB for request in proxy.requests if request.start.startswith("PUT ")]
        assert sizes == [8, 8, 8]


class Sized:
    """A stream that says how long it is."""

    def __init__(self, parts):
        self._parts = parts
        self.size_bytes = sum(map(len, parts))

    def __iter__(self):
        return iter(self._parts)
