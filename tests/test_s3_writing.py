"""Uploads to S3 that fail, and creates whose answer is lost: what they leave."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from ckptstore.errors import (
    AccessDenied,
    KeyExists,
    StoreError,
    StoreUnavailable,
)
from ckptstore_backends._obstore_upload import pieces_of
from ckptstore_backends.s3 import S3Store
from tests.servers import Fault, HttpLog, S3Server

_MIB = 1024 * 1024
_ONE_ATTEMPT = {"retries": {"total_max_attempts": 1}}


@pytest.fixture(params=["obstore", "s3fs"])
def s3_options(s3_options: dict[str, Any], request: pytest.FixtureRequest) -> dict[str, Any]:
    """The same server through either engine: obstore cannot give a storage class."""
    if request.param == "obstore":
        return s3_options
    return {**s3_options, "s3_additional_kwargs": {"StorageClass": "STANDARD"}}


@pytest.fixture
def hasty(s3_url: str, s3_options: dict[str, Any]) -> Iterator[S3Store]:
    """The same store, which soon gives up."""
    with S3Store.from_url(s3_url, **s3_options, deadline_s=2) as opened:
        yield opened


@pytest.fixture
def impatient(s3_url: str, s3_options: dict[str, Any]) -> Iterator[S3Store]:
    """The same store, which tries once."""
    with S3Store.from_url(s3_url, **s3_options, config_kwargs=_ONE_ATTEMPT) as opened:
        yield opened


def _use_parts_of(store: S3Store, part_bytes: int) -> None:
    transfer: Any = store._transfer
    streamed = {"stream_part_bytes": part_bytes} if transfer.name == "obstore" else {}
    transfer.limits = replace(transfer.limits, part_bytes=part_bytes, **streamed)


def _writes(log: HttpLog) -> tuple[int, int]:
    """Return how many POSTs and PUTs there were; an upload that is slow to begin is looked after with a GET."""
    counts = log.count()
    return counts["POST"], counts["PUT"]


def test_a_stream_goes_up_in_parallel_parts(s3_store: S3Store, http_log: HttpLog) -> None:
    _use_parts_of(s3_store, 6 * _MIB)
    parts = [random.Random(i).randbytes(6 * _MIB) for i in range(3)]
    s3_store.put("k", iter(parts))
    assert _writes(http_log) == (2, 3)
    assert bytes(s3_store.get("k")) == b"".join(parts)


class Sized:
    """A stream that says how long it is."""

    def __init__(self, parts: list[bytes], size_bytes: int) -> None:
        self._parts, self.size_bytes = parts, size_bytes

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._parts)


def test_a_stream_that_tells_its_length_goes_up_in_parts_that_fit(s3_store: S3Store, http_log: HttpLog) -> None:
    """What it says decides; what it has is 18 MiB: two parts of 16, or one of 18."""
    s3_store.put("k", Sized([bytes(6 * _MIB)] * 3, 10_000 * 16 * _MIB))
    assert _writes(http_log) == (2, 2)
    s3_store.put("k", Sized([bytes(6 * _MIB)] * 3, 10_000 * 18 * _MIB))
    puts = [request for request in http_log.requests if request.method == "PUT"]
    assert len(puts) == 3


def test_a_stream_of_unknown_length_ends_where_ten_thousand_parts_do() -> None:
    with pytest.raises(StoreError, match="10000 bytes"):
        list(pieces_of([memoryview(bytes(10))] * 1001, 1))


def test_the_producer_is_pulled_while_earlier_parts_are_on_their_way(s3_store: S3Store, http_log: HttpLog) -> None:
    _use_parts_of(s3_store, 5 * _MIB)
    sent_when_asked = []

    def chunks() -> Iterator[bytes]:
        for _ in range(8):
            sent_when_asked.append(len(http_log.requests))
            yield bytes(5 * _MIB)

    s3_store.put("k", chunks())
    assert sent_when_asked[0] == 0
    assert sent_when_asked[-1] > 2


def test_a_part_that_fails_leaves_nothing(s3_store: S3Store, faulty_s3: S3Server) -> None:
    s3_store.put("k", b"old")
    _use_parts_of(s3_store, 5 * _MIB)
    faulty_s3.set_faults(Fault("PUT .*partNumber=2", "refuse", status=400, code="InvalidRequest"))
    with pytest.raises(StoreError, match="InvalidRequest"):
        s3_store.put("k", iter([bytes(5 * _MIB)] * 4))
    assert bytes(s3_store.get("k")) == b"old"
    assert list(s3_store.list_uploads()) == []


def test_a_failing_part_stops_the_producer(s3_store: S3Store, faulty_s3: S3Server) -> None:
    _use_parts_of(s3_store, 5 * _MIB)
    faulty_s3.set_faults(Fault("PUT .*partNumber", "refuse", times=-1, status=403, code="AccessDenied"))
    pulled = 0

    def chunks() -> Iterator[bytes]:
        nonlocal pulled
        for pulled in range(100):  # noqa: B007  # counted outside
            yield bytes(5 * _MIB)

    with pytest.raises(AccessDenied):
        s3_store.put("k", chunks())
    assert pulled < 10


def test_an_upload_that_cannot_be_aborted_is_mentioned_beside_the_error(
    impatient: S3Store, faulty_s3: S3Server
) -> None:
    faulty_s3.set_faults(Fault("DELETE .*uploadId", "refuse", times=-1, status=503, code="SlowDown"))

    def chunks() -> Iterator[bytes]:
        yield bytes(20 * _MIB)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as raised:
        impatient.put("k", chunks())
    assert "unfinished upload of 'k' may remain" in raised.value.__notes__[0]
    faulty_s3.set_faults()
    (left,) = impatient.list_uploads()
    assert left.key == "k"
    impatient.abort_upload(left)
    impatient.abort_upload(left)
    assert list(impatient.list_uploads()) == []


def test_a_completion_whose_answer_was_lost_is_recognised(s3_store: S3Store, faulty_s3: S3Server) -> None:
    faulty_s3.set_faults(Fault("POST .*uploadId", "lose"))
    info = s3_store.put("k", bytes(20 * _MIB))
    assert (info.size_bytes, info.version) == (20 * _MIB, s3_store.stat("k").version)


def test_uploads_of_other_prefixes_are_not_listed(
    s3_store: S3Store, s3_bucket: str, s3_options: dict[str, Any]
) -> None:
    with S3Store(s3_bucket, **s3_options) as whole:
        for key in ("some/prefix/a/k", "some/prefix/k", "elsewhere"):
            whole._client.call("create_multipart_upload", key=key)
        assert [upload.key for upload in s3_store.list_uploads()] == ["a/k", "k"]
        assert [upload.key for upload in s3_store.list_uploads("a/")] == ["a/k"]
        assert all(upload.started.tzinfo for upload in s3_store.list_uploads())


def test_a_create_whose_answer_was_lost_knows_its_own_object(
    s3_store: S3Store, faulty_s3: S3Server, http_log: HttpLog
) -> None:
    faulty_s3.set_faults(Fault("PUT .*/k", "lose"))
    info = s3_store.put("k", b"mine", overwrite=False)
    assert info.version == s3_store.stat("k").version
    assert http_log.count()["PUT"] == 2
    with pytest.raises(KeyExists, match="'k'"):
        s3_store.put("k", b"mine", overwrite=False)


def test_a_write_that_conflicts_with_another_is_tried_again(hasty: S3Store, faulty_s3: S3Server) -> None:
    conflict = Fault("PUT .*/k", "refuse", times=2, status=409, code="ConditionalRequestConflict")
    for overwrite in (False, True):
        faulty_s3.set_faults(conflict)
        hasty.put("k", b"mine", overwrite=overwrite)
        assert bytes(hasty.get("k")) == b"mine"
        faulty_s3.set_faults(replace(conflict, times=-1))
        with pytest.raises(StoreUnavailable, match="ConditionalRequestConflict"):
            hasty.put("k", b"mine", overwrite=overwrite)
