"""S3 behind a faulty network: what a store promises holds, or one clear error comes, soon."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest

from ckptstore_backends import _s3_obstore
from ckptstore_backends._obstore_transfer import ObstoreLimits
from ckptstore_backends._parts import MIB
from ckptstore_backends._ranges import RangeLimits
from ckptstore_backends.s3 import S3Store
from tests.fault_matrix import ENDLESS, FAULTS, S3_HITS, Cell, OpenPlace, Place, check, row
from tests.proxy import proxy_to
from tests.seaweedfs import SeaweedFS

IMPATIENT = {
    "deadline_s": 3,
    "config_kwargs": {"connect_timeout": 1, "read_timeout": 1, "retries": {"total_max_attempts": 3}},
}

_NAMELESS = "an upload whose id was never told can be aborted by nobody: S3 lists it without a trace of its writer"
_SLOW_OR_SILENT = "obstore takes the sending of a part for silence, so a write that stalls is given all of the time"
KNOWN: Mapping[Cell, str] = {
    **{(fault, "parts, begin"): _NAMELESS for fault in ("cut", "lost answer", "truncated")},
    **{("stall", request): _SLOW_OR_SILENT for request in ("put", "parts, begin", "parts, part", "parts, end")},
    ("truncated", "parts, end"): "the object is whole, and obstore asks no second time whether it is",
}
KNOWN_OF_ENDLESS: Mapping[Cell, str] = {
    (fault, "parts, begin"): _NAMELESS for fault in ("cut", "lost answer", "truncated")
}


@pytest.fixture
def new_place(
    seaweedfs: SeaweedFS, seaweedfs_options: dict[str, Any], _seaweedfs_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> OpenPlace:
    monkeypatch.setattr(_s3_obstore, "_SILENCE_S", 1.0)
    bucket = _seaweedfs_bucket

    @contextmanager
    def opened() -> Iterator[Place]:
        prefix = f"faults-{uuid4().hex}"
        with (
            proxy_to(seaweedfs.url) as proxy,
            S3Store(bucket, prefix, **{**seaweedfs_options, **IMPATIENT, "endpoint_url": proxy.url}) as store,
        ):
            store._obstore.limits = ObstoreLimits(part_bytes=5 * MIB, stream_part_bytes=5 * MIB)
            store._range_limits = RangeLimits(request_bytes=4 * MIB)
            yield Place(
                store,
                proxy,
                seed=lambda key, data: seaweedfs.put(bucket, f"{prefix}/{key}", data),
                peek=lambda key: seaweedfs.get(bucket, f"{prefix}/{key}"),
                uploads=lambda: [key for key in seaweedfs.uploads(bucket) if key.startswith(prefix)],
            )

    return opened


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_happens_once_leaves_no_promise_broken(new_place, fault):
    check(fault, row(new_place, S3_HITS, fault, endless=False), KNOWN, endless=False)


@pytest.mark.parametrize("fault", ENDLESS)
def test_a_fault_that_happens_every_time_leaves_no_promise_broken(new_place, fault):
    check(fault, row(new_place, S3_HITS, fault, endless=True), KNOWN_OF_ENDLESS, endless=True)
