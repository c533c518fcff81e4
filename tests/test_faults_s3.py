"""S3 behind a faulty network: what a store promises holds, or one clear error comes, soon."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

import pytest

from ckptstore_backends._obstore_transfer import ObstoreLimits
from ckptstore_backends._parts import MIB
from ckptstore_backends._ranges import RangeLimits
from ckptstore_backends.s3 import S3Store
from tests.fault_matrix import ENDLESS, FAULTS, S3_HITS, OpenPlace, Place, check, row
from tests.proxy import proxy_to
from tests.seaweedfs import SeaweedFS

IMPATIENT = {
    "deadline_s": 5,
    "config_kwargs": {"connect_timeout": 1, "read_timeout": 1, "retries": {"total_max_attempts": 3}},
}


@pytest.fixture(scope="module")
def new_place(seaweedfs: SeaweedFS, seaweedfs_options: dict[str, Any], _seaweedfs_bucket: str) -> Iterator[OpenPlace]:
    """Places that are used again, emptied: a store has many faults behind it, as in a long run."""
    bucket = _seaweedfs_bucket
    idle: list[Place] = []

    @contextmanager
    def opened() -> Iterator[Place]:
        place = idle.pop() if idle else everything.enter_context(_place(seaweedfs, bucket, seaweedfs_options))
        yield place
        _empty(seaweedfs, bucket, place.store.url.partition(f"{bucket}/")[2])
        idle.append(place)

    with ExitStack() as everything:
        yield opened


@contextmanager
def _place(seaweedfs: SeaweedFS, bucket: str, options: Mapping[str, Any]) -> Iterator[Place]:
    prefix = f"faults-{uuid4().hex}"
    with (
        proxy_to(seaweedfs.url) as proxy,
        S3Store(bucket, prefix, **{**options, **IMPATIENT, "endpoint_url": proxy.url}) as store,
    ):
        store._obstore.limits = ObstoreLimits(part_bytes=5 * MIB, stream_part_bytes=5 * MIB)
        store._range_limits = RangeLimits(request_bytes=4 * MIB)
        yield Place(
            store,
            proxy,
            seed=lambda key, data: seaweedfs.put(bucket, f"{prefix}/{key}", data),
            peek=lambda key: seaweedfs.get(bucket, f"{prefix}/{key}"),
            uploads=lambda: [key for key, _ in seaweedfs.uploads(bucket, f"{prefix}/")],
        )


def _empty(seaweedfs: SeaweedFS, bucket: str, prefix: str) -> None:
    for key in ("old", "other", "large", "new"):
        seaweedfs.hands.delete_object(Bucket=bucket, Key=f"{prefix}/{key}")
    for key, upload_id in seaweedfs.uploads(bucket, f"{prefix}/"):
        seaweedfs.hands.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_happens_once_leaves_no_promise_broken(new_place, fault):
    check(fault, row(new_place, S3_HITS, fault, endless=False), {}, endless=False)


@pytest.mark.parametrize("fault", ENDLESS)
def test_a_fault_that_happens_every_time_leaves_no_promise_broken(new_place, fault):
    check(fault, row(new_place, S3_HITS, fault, endless=True), {}, endless=True)
