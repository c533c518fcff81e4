"""What the S3 store does on the wire: how many requests, what a failure leaves, what an error says."""

from __future__ import annotations

import itertools
import pickle
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest

from ckptstore.errors import (
    AccessDenied,
    InvalidKey,
    InvalidURL,
    KeyExists,
    KeyNotFound,
    ObjectChanged,
    StoreError,
    StoreFull,
    StoreNotFound,
    StoreUnavailable,
)
from ckptstore.objects import ByteRange
from ckptstore.store import open_store
from ckptstore_backends._ranges import RangeLimits
from ckptstore_backends.s3 import CopyLimits, S3Store
from tests.servers import Fault, HttpLog, S3Server

_MIB = 1024 * 1024
_ONE_ATTEMPT = {"retries": {"total_max_attempts": 1}}


@pytest.fixture
def store(s3_url: str, s3_options: dict[str, Any]) -> Iterator[S3Store]:
    with S3Store.from_url(s3_url, **s3_options) as opened:
        yield opened


@pytest.fixture
def impatient(s3_url: str, s3_options: dict[str, Any]) -> Iterator[S3Store]:
    """The same store, which tries once."""
    with S3Store.from_url(s3_url, **s3_options, config_kwargs=_ONE_ATTEMPT) as opened:
        yield opened


def _operations(store: S3Store) -> dict[str, Callable[[], object]]:
    return {
        "get": lambda: store.get("k"),
        "get_ranges": lambda: list(store.get_ranges("k", [ByteRange(-5)])),
        "stat": lambda: store.stat("k"),
        "list": lambda: list(store.list()),
        "list_prefixes": lambda: list(store.list_prefixes()),
        "put": lambda: store.put("k", b"x"),
        "put in parts": lambda: store.put("k", b"x" * (17 * _MIB)),
        "create": lambda: store.put("k", b"x", overwrite=False),
        "delete": lambda: store.delete(["k"]),
        "copy": lambda: store.copy("k", "other"),
        "list_uploads": lambda: list(store.list_uploads()),
    }


# -- how many requests --------------------------------------------------------------------------------------


def test_opening_makes_no_request(s3_url: str, s3_options: dict[str, Any], http_log: HttpLog) -> None:
    with open_store(s3_url, **s3_options) as store:
        assert store.capabilities.atomic_create
        assert store.path("k").name == "k"
    assert http_log.requests == []


def test_small_objects_take_one_request_each_way(store: S3Store, http_log: HttpLog) -> None:
    steps: list[tuple[Callable[[], object], dict[str, int]]] = [
        (lambda: store.put("k", b"x" * _MIB), {"PUT": 1}),
        (lambda: store.put("k", iter([b"x" * _MIB] * 16)), {"PUT": 1}),
        (lambda: store.put("new", b"x", overwrite=False), {"PUT": 1}),
        (lambda: store.get("k"), {"GET": 1}),
        (lambda: store.stat("k"), {"HEAD": 1}),
        (lambda: store.copy("k", "copied"), {"HEAD": 1, "PUT": 1}),
        (lambda: store.delete(["k"]), {"POST": 1}),
        (lambda: store.delete([]), {}),
    ]
    for act, expected in steps:
        http_log.clear()
        act()
        assert http_log.count() == expected


def test_an_empty_object_takes_one_get(store: S3Store, http_log: HttpLog) -> None:
    store.put("k", b"")
    http_log.clear()
    assert bytes(store.get("k")) == b""
    assert http_log.count() == {"GET": 1}


def test_a_listing_takes_one_request_per_thousand_and_only_when_asked(
    store: S3Store, s3_server: S3Server, s3_bucket: str, http_log: HttpLog
) -> None:
    s3_server.put_objects(s3_bucket, {f"some/prefix/{i:04d}": b"" for i in range(2500)})
    listing = store.list()
    assert http_log.count() == {}
    assert len(list(itertools.islice(listing, 1000))) == 1000
    assert http_log.count() == {"GET": 1}
    assert len(list(listing)) == 1500
    assert http_log.count() == {"GET": 3}


def test_deleting_takes_one_request_per_thousand_with_a_checksum_that_old_servers_know(
    store: S3Store, http_log: HttpLog
) -> None:
    store.delete(f"{i:04d}" for i in range(1500))
    assert http_log.count() == {"POST": 2}
    assert all("CONTENT_MD5" in request.headers for request in http_log.requests)


def test_near_ranges_share_one_request(store: S3Store, http_log: HttpLog) -> None:
    data = random.Random(0).randbytes(4 * _MIB)
    store.put("k", data)
    http_log.clear()
    starts = [i * 40_000 for i in range(100)]
    parts = store.get_ranges("k", [ByteRange(start, 1000) for start in starts])
    assert [bytes(part) for part in parts] == [data[start : start + 1000] for start in starts]
    assert http_log.count() == {"GET": 1}


def test_far_ranges_are_separate_requests_of_one_version(store: S3Store, http_log: HttpLog) -> None:
    version = store.put("k", bytes(8 * _MIB)).version
    http_log.clear()
    assert len(list(store.get_ranges("k", [ByteRange(i * 2 * _MIB, 10) for i in range(4)]))) == 4
    first, *others = http_log.requests
    assert "IF_MATCH" not in first.headers
    assert [request.headers["IF_MATCH"] for request in others] == [f'"{version}"'] * 3


def test_nothing_is_requested_before_the_first_range_is_asked_for(store: S3Store, http_log: HttpLog) -> None:
    store.put("k", b"abc")
    http_log.clear()
    parts = store.get_ranges("k", [ByteRange(0)])
    assert http_log.requests == []
    assert bytes(next(parts)) == b"abc"


# -- ranges -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_ranges_are_right_however_they_are_cut_into_requests(store: S3Store, seed: int) -> None:
    dice = random.Random(seed)
    data = dice.randbytes(1000)
    store.put("k", data)
    store._range_limits = RangeLimits(
        gap_bytes=dice.choice([0, 3, 50]), request_bytes=37, window_bytes=80, requests=3
    )
    ranges = [_any_range(dice) for _ in range(12)]
    expected = [data[slice(*wanted.within(len(data)))] for wanted in ranges]
    assert [bytes(part) for part in store.get_ranges("k", ranges)] == expected


def _any_range(dice: random.Random) -> ByteRange:
    start, length = dice.randrange(1100), dice.randrange(200)
    return dice.choice([ByteRange(start, length), ByteRange(start), ByteRange(-1 - start), ByteRange(start, 3)])


def test_a_large_object_is_read_in_parallel_requests(store: S3Store, http_log: HttpLog) -> None:
    data = random.Random(1).randbytes(_MIB)
    store.put("k", data)
    http_log.clear()
    store._range_limits = RangeLimits(request_bytes=100_000)
    assert bytes(store.get("k")) == data
    assert http_log.count() == {"GET": 11}


def test_ranges_of_a_replaced_object_are_refused(store: S3Store) -> None:
    store._range_limits = RangeLimits(gap_bytes=0, request_bytes=10, window_bytes=10)
    store.put("k", b"a" * 100)
    parts = store.get_ranges("k", [ByteRange(i * 10, 10) for i in range(10)])
    assert next(parts) == b"a" * 10
    store.put("k", b"b" * 100)
    with pytest.raises(ObjectChanged, match="'k'"):
        list(parts)


def test_a_body_that_is_cut_short_is_taken_up_where_it_ended(
    store: S3Store, faulty_s3: S3Server, http_log: HttpLog
) -> None:
    data = random.Random(2).randbytes(100_000)
    store.put("k", data)
    http_log.clear()
    faulty_s3.set_faults(Fault("GET .*/k", "truncate", times=2))
    assert bytes(store.get("k")) == data
    assert [request.headers["RANGE"].partition("-")[0] for request in http_log.requests] == [
        "bytes=0", "bytes=50000", "bytes=75000",
    ]  # fmt: skip


def test_a_body_that_is_always_cut_short_is_an_error(store: S3Store, faulty_s3: S3Server) -> None:
    store.put("k", bytes(100_000))
    faulty_s3.set_faults(Fault("GET .*/k", "truncate", times=-1))
    with pytest.raises(StoreUnavailable, match="of 100000 bytes"):
        store.get("k")


# -- uploads ------------------------------------------------------------------------------------------------


def test_a_stream_goes_up_in_parallel_parts(store: S3Store, http_log: HttpLog) -> None:
    store._transfer.limits = replace(store._transfer.limits, part_bytes=6 * _MIB)  # type: ignore[attr-defined]
    parts = [random.Random(i).randbytes(6 * _MIB) for i in range(3)]
    store.put("k", iter(parts))
    assert http_log.count() == {"POST": 2, "PUT": 3}
    assert bytes(store.get("k")) == b"".join(parts)


def test_the_producer_is_pulled_while_earlier_parts_are_on_their_way(store: S3Store, http_log: HttpLog) -> None:
    sent_when_asked = []

    def chunks() -> Iterator[bytes]:
        for _ in range(12):
            sent_when_asked.append(len(http_log.requests))
            yield bytes(8 * _MIB)

    store.put("k", chunks())
    assert sent_when_asked[0] == 0
    assert sent_when_asked[-1] > 2


def test_a_part_that_fails_leaves_nothing(store: S3Store, faulty_s3: S3Server) -> None:
    store.put("k", b"old")
    faulty_s3.set_faults(Fault("PUT .*partNumber=2", "refuse", status=400, code="InvalidRequest"))
    with pytest.raises(StoreError, match="InvalidRequest"):
        store.put("k", iter([bytes(16 * _MIB)] * 4))
    assert bytes(store.get("k")) == b"old"
    assert list(store.list_uploads()) == []


def test_a_failing_part_stops_the_producer(store: S3Store, faulty_s3: S3Server) -> None:
    faulty_s3.set_faults(Fault("PUT .*partNumber", "refuse", times=-1, status=403, code="AccessDenied"))
    pulled = 0

    def chunks() -> Iterator[bytes]:
        nonlocal pulled
        for pulled in range(100):  # noqa: B007  # counted outside
            yield bytes(16 * _MIB)

    with pytest.raises(AccessDenied):
        store.put("k", chunks())
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


def test_a_completion_whose_answer_was_lost_is_recognised(store: S3Store, faulty_s3: S3Server) -> None:
    faulty_s3.set_faults(Fault("POST .*uploadId", "lose"))
    info = store.put("k", bytes(20 * _MIB))
    assert (info.size_bytes, info.version) == (20 * _MIB, store.stat("k").version)


def test_uploads_of_other_prefixes_are_not_listed(store: S3Store, s3_bucket: str, s3_options: dict[str, Any]) -> None:
    with S3Store(s3_bucket, **s3_options) as whole:
        for key in ("some/prefix/a/k", "some/prefix/k", "elsewhere"):
            whole._client.call("create_multipart_upload", key=key)
        assert [upload.key for upload in store.list_uploads()] == ["a/k", "k"]
        assert [upload.key for upload in store.list_uploads("a/")] == ["a/k"]
        assert all(upload.started.tzinfo for upload in store.list_uploads())


# -- atomic create ------------------------------------------------------------------------------------------


def test_a_create_whose_answer_was_lost_knows_its_own_object(
    store: S3Store, faulty_s3: S3Server, http_log: HttpLog
) -> None:
    faulty_s3.set_faults(Fault("PUT .*/k", "lose"))
    info = store.put("k", b"mine", overwrite=False)
    assert info.version == store.stat("k").version
    assert http_log.count()["PUT"] == 2
    with pytest.raises(KeyExists, match="'k'"):
        store.put("k", b"mine", overwrite=False)


def test_a_create_that_conflicts_with_another_is_tried_again(store: S3Store, faulty_s3: S3Server) -> None:
    conflict = Fault("PUT .*/k", "refuse", times=3, status=409, code="ConditionalRequestConflict")
    faulty_s3.set_faults(conflict)
    store.put("k", b"mine", overwrite=False)
    assert bytes(store.get("k")) == b"mine"
    faulty_s3.set_faults(replace(conflict, times=-1))
    with pytest.raises(StoreUnavailable, match="ConditionalRequestConflict"):
        store.put("k", b"mine", overwrite=False)


# -- copies -------------------------------------------------------------------------------------------------


def test_a_copy_between_buckets_of_one_server_moves_no_bytes_through_here(
    store: S3Store, s3_server: S3Server, s3_options: dict[str, Any], http_log: HttpLog
) -> None:
    data = random.Random(3).randbytes(12 * _MIB)
    store.put("k", data)
    s3_server.request("PUT", "another-bucket")
    with S3Store("another-bucket", "x", **s3_options) as other:
        other._copy_limits = CopyLimits(single_bytes=10 * _MIB, part_bytes=5 * _MIB)
        http_log.clear()
        assert store.copy("k", "in parts + 100%", target=other).size_bytes == len(data)
        assert http_log.count() == {"HEAD": 1, "POST": 2, "PUT": 3}
        assert bytes(other.get("in parts + 100%")) == data


@pytest.mark.parametrize("single_bytes", [0, 100])
def test_a_copy_of_a_replaced_source_is_refused(store: S3Store, single_bytes: int) -> None:
    found = store.put("k", b"old")
    store.put("k", b"new")
    store._copy_limits = CopyLimits(single_bytes=single_bytes)
    with pytest.raises(ObjectChanged):
        store._copy_from(store._client.address("k"), found, "copied")
    assert [info.key for info in store.list()] == ["k"]
    assert list(store.list_uploads()) == []


# -- errors -------------------------------------------------------------------------------------------------


def test_a_missing_bucket_is_said_to_be_missing_by_every_operation(s3_options: dict[str, Any]) -> None:
    with S3Store("no-such-bucket", "p", **s3_options) as store:
        for operation in _operations(store).values():
            with pytest.raises(StoreNotFound, match="s3://no-such-bucket/p"):
                operation()


@pytest.mark.parametrize(
    "code", ["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "RequestTimeTooSkewed"]
)
def test_wrong_credentials_are_refused_in_one_attempt(
    store: S3Store, faulty_s3: S3Server, http_log: HttpLog, code: str
) -> None:
    faulty_s3.set_faults(Fault("", "refuse", times=-1, status=403, code=code))
    for name, operation in _operations(store).items():
        http_log.clear()
        with pytest.raises(AccessDenied) as raised:
            operation()
        assert len(http_log.requests) == 1, name
        assert "403" in str(raised.value)


def test_an_error_says_what_to_do(store: S3Store, faulty_s3: S3Server) -> None:
    for status, code, kind, advice in [
        (403, "InvalidAccessKeyId", AccessDenied, "set key= and secret="),
        (403, "SignatureDoesNotMatch", AccessDenied, "the secret does not belong to this access key"),
        (400, "ExpiredToken", AccessDenied, "get new ones"),
        (403, "RequestTimeTooSkewed", AccessDenied, "clock"),
        (507, "InsufficientStorage", StoreFull, "HTTP 507"),
        (403, "QuotaExceeded", StoreFull, "QuotaExceeded"),
        (404, "NoSuchBucket", StoreNotFound, "create the bucket"),
        (404, "NoSuchKey", KeyNotFound, "'k'"),
    ]:
        faulty_s3.set_faults(Fault("", "refuse", times=-1, status=status, code=code))
        with pytest.raises(kind, match=advice):
            store.get("k")


def test_a_bucket_in_another_region_is_named(store: S3Store, faulty_s3: S3Server) -> None:
    where = (("x-amz-bucket-region", "eu-west-1"),)
    faulty_s3.set_faults(Fault("", "refuse", times=-1, status=301, code="PermanentRedirect", headers=where))
    with pytest.raises(StoreError, match=r"'eu-west-1'.*region_name"):
        store.put("k", b"x")


def test_no_credentials_at_all_is_denied_without_a_request(s3_url: str, moto_url: str, http_log: HttpLog) -> None:
    for options in ({}, {"profile": "absent"}, {"key": "alone"}):
        store = S3Store.from_url(s3_url, endpoint_url=moto_url, **options)
        with store, pytest.raises(AccessDenied, match="profile"):
            store.get("k")
    assert http_log.requests == []


def test_an_endpoint_that_does_not_answer_is_unavailable() -> None:
    with S3Store(
        "bucket", key="k", secret="s", endpoint_url="http://127.0.0.1:9", config_kwargs=_ONE_ATTEMPT
    ) as store:
        for operation in _operations(store).values():
            with pytest.raises(StoreUnavailable, match="EndpointConnectionError"):
                operation()


def test_a_busy_store_is_tried_again_but_not_for_ever(
    s3_url: str, s3_options: dict[str, Any], faulty_s3: S3Server, http_log: HttpLog
) -> None:
    retries = {"retries": {"total_max_attempts": 3}}
    busy = Fault("", "refuse", status=503, code="SlowDown")
    with S3Store.from_url(s3_url, **s3_options, config_kwargs=retries) as store:
        faulty_s3.set_faults(replace(busy, times=2))
        store.put("k", b"x")
        faulty_s3.set_faults(replace(busy, times=-1))
        http_log.clear()
        with pytest.raises(StoreUnavailable, match="SlowDown"):
            store.get("k")
        assert http_log.count() == {"GET": 3}


def test_a_key_that_cannot_be_deleted_is_named_and_the_others_are_gone(store: S3Store, faulty_s3: S3Server) -> None:
    body = (
        "<DeleteResult><Error><Key>some/prefix/kept</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
        "</DeleteResult>"
    )
    store.put("9999", b"x")
    faulty_s3.set_faults(Fault("POST .*delete", "refuse", status=200, body=body))
    with pytest.raises(AccessDenied, match="'kept'"):
        store.delete([*(f"{i:04d}" for i in range(1000)), "9999"])
    assert list(store.list()) == []


def test_foreign_objects_that_no_key_can_name_are_not_listed(
    store: S3Store, s3_server: S3Server, s3_bucket: str
) -> None:
    foreign = ["", "folder/", "a//b", "star*", ".ckptstore-x/y"]
    s3_server.put_objects(s3_bucket, {f"some/prefix/{key}": b"x" for key in [*foreign, "folder/k"]})
    assert [info.key for info in store.list()] == ["folder/k"]
    assert list(store.list_prefixes()) == ["a/", "folder/"]


def test_a_key_too_long_together_with_the_prefix_is_refused(s3_bucket: str, s3_options: dict[str, Any]) -> None:
    with S3Store(s3_bucket, "p" * 190, **s3_options) as store, pytest.raises(InvalidKey, match="1024"):
        store.put("/".join(["k" * 99] * 9), b"x")


# -- options, addresses, secrets ----------------------------------------------------------------------------


def test_an_unknown_option_is_named_at_once() -> None:
    with pytest.raises(TypeError, match="'secrets'"):
        open_store("s3://bucket", secrets="x")


def test_contradictory_options_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="not both"):
        open_store("s3://bucket", key="a", username="b")


def test_caching_options_are_overruled(s3_url: str, s3_options: dict[str, Any]) -> None:
    with open_store(s3_url, **s3_options, use_listings_cache=True, skip_instance_cache=False) as store:
        assert list(store.list()) == []
        store.put("k", b"x")
        assert [info.key for info in store.list()] == ["k"]


@pytest.mark.parametrize(
    "url",
    ["s3://", "s3:///prefix", "s3://user:hunter2@bucket/p", "s3://bucket/p?token=hunter2", "s3://bucket/p#hunter2",
     "s3://bucket/../other", "s3://bucket/a//b", "s3://buck et/p"],
)  # fmt: skip
def test_a_url_that_cannot_be_understood_is_refused_without_its_secret(url: str) -> None:
    with pytest.raises(InvalidURL) as raised:
        open_store(url)
    assert "hunter2" not in str(raised.value)


def test_an_endpoint_with_credentials_is_refused_without_them() -> None:
    for options in (
        {"endpoint_url": "http://u:hunter2@h"},
        {"client_kwargs": {"endpoint_url": "http://u:hunter2@h"}},
    ):
        with pytest.raises(InvalidURL) as raised:
            open_store("s3://bucket", **options)
        assert "hunter2" not in str(raised.value)


def test_s3a_is_the_same_store(s3_url: str, s3_options: dict[str, Any]) -> None:
    with open_store(s3_url.replace("s3:", "s3a:"), **s3_options) as store:
        store.put("k", b"x")
        assert store.url == s3_url


def test_a_bucket_without_prefix_is_a_store(s3_bucket: str, s3_options: dict[str, Any]) -> None:
    with open_store(f"s3://{s3_bucket}/", **s3_options) as store:
        store.put("a/k", b"x")
        assert (store.url, [info.key for info in store.list()]) == (f"s3://{s3_bucket}", ["a/k"])
        assert str(store.path("a/k")) == f"s3://{s3_bucket}/a/k"


@pytest.mark.parametrize("key", ["plain", "a/b + 100% #1", "é/.hidden", "a%20b"])
def test_a_path_is_a_url_without_secrets(store: S3Store, key: str) -> None:
    path = store.path(key)
    assert str(path) == f"{store.url}/{key}"
    assert b"test-secret" not in pickle.dumps(path)


def test_no_error_holds_a_secret(s3_url: str, moto_url: str, faulty_s3: S3Server) -> None:
    secrets = {"key": "AKIAHUNTER", "secret": "hunter-secret", "token": "hunter-token"}
    for fault in (Fault("", "refuse", times=-1, status=403, code="InvalidAccessKeyId"), Fault("x^", "lose")):
        faulty_s3.set_faults(fault)
        with S3Store.from_url(s3_url, endpoint_url=moto_url, **secrets) as store:
            with pytest.raises(StoreError) as raised:
                store.get("absent")
            said = repr(store) + str(raised.value) + repr(raised.value) + repr(raised.value.__cause__)
            assert "hunter" not in said.lower()


def test_a_missing_s3fs_says_what_to_install() -> None:
    with patch.dict(sys.modules, {"s3fs": None}), pytest.raises(ImportError, match=r"pip install 'ckptstore\[s3\]'"):
        open_store("s3://bucket")


# -- processes ----------------------------------------------------------------------------------------------

_SCRIPT = """
import os, sys
from ckptstore.store import open_store
url, endpoint, ending = sys.argv[1:]
store = open_store(url, key="k", secret="s", endpoint_url=endpoint, client_kwargs={"region_name": "us-east-1"})
store.put("before", b"x")
if ending == "fork":
    child = os.fork()
    if not child:
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    child = os.fork()
    if not child:
        store.put("child", b"x")
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    store.put("after", b"x")
if ending == "close":
    store.close()
    store.close()
if ending == "half read":
    parts = store.get_ranges("before", [__import__("ckptstore.objects").objects.ByteRange(0)])
    next(parts)
"""


@pytest.mark.parametrize("ending", ["close", "exit", "fork", "half read"])
def test_a_process_ends_quietly(s3_url: str, moto_url: str, ending: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", _SCRIPT, s3_url, moto_url, ending],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
