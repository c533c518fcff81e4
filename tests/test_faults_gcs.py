"""GCS behind a faulty network: what a store promises holds, or one clear error comes, soon.

fake-gcs-server, which this is about, looks at preconditions only in uploads of one request, and publishes an upload
of several when it is asked how far that is. Both concern the answers that are sent here in its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest

from ckptstore_backends import _gcs_retries, _gcs_transfer
from ckptstore_backends._parts import MIB
from ckptstore_backends._ranges import RangeLimits
from ckptstore_backends.gcs import GCSStore
from tests.fake_gcs import FakeGCS
from tests.fault_matrix import ENDLESS, FAULTS, JSON_HITS, Cell, OpenPlace, Place, check, row
from tests.proxy import proxy_to

_NOT_RESUMED = "an upload cannot be resumed there: asked how far it is, the emulator publishes what it has"
_PUBLISHED = "the emulator checks no CRC32C: what is damaged is published, found out and removed"
KNOWN: Mapping[Cell, str] = {
    **{
        (fault, request): _NOT_RESUMED
        for fault in ("stall", "cut", "reset")
        for request in ("parts, part", "parts, end")
    },
    ("lost answer", "parts, part"): _NOT_RESUMED,
    ("truncated", "parts, part"): _NOT_RESUMED,
    **{("flipped bit", request): _PUBLISHED for request in ("put", "parts, part", "parts, end")},
    ("409", "create"): "GCS answers a lost race with 412, and with 409 only what no attempt can change",
}


@pytest.fixture
def new_place(fake_gcs_server: FakeGCS, gcs_options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> OpenPlace:
    monkeypatch.setattr(_gcs_retries, "_STALL_S", 1.0)
    monkeypatch.setattr(_gcs_transfer, "_PART_BYTES", 5 * MIB)
    bucket = fake_gcs_server.new_bucket()

    @contextmanager
    def opened() -> Iterator[Place]:
        prefix = f"faults-{uuid4().hex}"
        with (
            proxy_to(fake_gcs_server.url) as proxy,
            GCSStore(bucket, prefix, **{**gcs_options, "deadline_s": 2.5, "endpoint_url": proxy.url}) as store,
        ):
            store._range_limits = RangeLimits(request_bytes=4 * MIB)
            yield Place(
                store,
                proxy,
                seed=lambda key, data: fake_gcs_server.put(bucket, f"{prefix}/{key}", data),
                peek=lambda key: fake_gcs_server.get(bucket, f"{prefix}/{key}"),
                uploads=list,
            )

    return opened


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_happens_once_leaves_no_promise_broken(new_place, fault):
    check(fault, row(new_place, JSON_HITS, fault, endless=False), KNOWN, endless=False)


@pytest.mark.parametrize("fault", ENDLESS)
def test_a_fault_that_happens_every_time_leaves_no_promise_broken(new_place, fault):
    check(fault, row(new_place, JSON_HITS, fault, endless=True), {}, endless=True)
