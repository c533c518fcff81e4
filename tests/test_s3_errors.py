"""What S3's errors become: one clear error, soon, that says what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ckptstore.errors import (
    AccessDenied,
    InvalidKey,
    KeyNotFound,
    StoreError,
    StoreFull,
    StoreNotFound,
    StoreUnavailable,
)
from ckptstore.objects import ByteRange
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


def _operations(s3_store: S3Store) -> dict[str, Callable[[], object]]:
    return {
        "get": lambda: s3_store.get("k"),
        "get_ranges": lambda: list(s3_store.get_ranges("k", [ByteRange(-5)])),
        "stat": lambda: s3_store.stat("k"),
        "list": lambda: list(s3_store.list()),
        "list_prefixes": lambda: list(s3_store.list_prefixes()),
        "put": lambda: s3_store.put("k", b"x"),
        "put in parts": lambda: s3_store.put("k", b"x" * (17 * _MIB)),
        "create": lambda: s3_store.put("k", b"x", overwrite=False),
        "delete": lambda: s3_store.delete(["k"]),
        "copy": lambda: s3_store.copy("k", "other"),
        "list_uploads": lambda: list(s3_store.list_uploads()),
    }


def test_a_missing_bucket_is_said_to_be_missing_by_every_operation(s3_options: dict[str, Any]) -> None:
    with S3Store("no-such-bucket", "p", **s3_options) as store:
        for operation in _operations(store).values():
            with pytest.raises(StoreNotFound, match="s3://no-such-bucket/p"):
                operation()


@pytest.mark.parametrize(
    "code", ["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "RequestTimeTooSkewed"]
)
def test_wrong_credentials_are_refused_in_one_attempt(
    s3_store: S3Store, faulty_s3: S3Server, http_log: HttpLog, code: str
) -> None:
    faulty_s3.set_faults(Fault("", "refuse", times=-1, status=403, code=code))
    for name, operation in _operations(s3_store).items():
        http_log.clear()
        with pytest.raises(AccessDenied) as raised:
            operation()
        assert len(http_log.requests) == 1, name
        assert "403" in str(raised.value)


def test_an_error_says_what_to_do(s3_store: S3Store, faulty_s3: S3Server) -> None:
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
            s3_store.get("k")


def test_an_error_says_what_was_asked_in_plain_words(s3_store: S3Store, faulty_s3: S3Server) -> None:
    faulty_s3.set_faults(Fault("", "refuse", times=-1, status=403, code="AccessDenied"))
    words = {
        "get": "get 'k'", "stat": "stat 'k'", "put": "put 'k'", "list": "list", "list_prefixes": "list",
        "delete": "delete", "copy": "stat 'k'", "list_uploads": "list uploads",
    }  # fmt: skip
    operations = _operations(s3_store)
    for name, said in words.items():
        with pytest.raises(AccessDenied, match=f"^cannot {said} in s3://"):
            operations[name]()


def test_a_bucket_in_another_region_is_named(s3_store: S3Store, faulty_s3: S3Server) -> None:
    where = (("x-amz-bucket-region", "eu-west-1"),)
    faulty_s3.set_faults(Fault("", "refuse", times=-1, status=301, code="PermanentRedirect", headers=where))
    with pytest.raises(StoreError, match=r"'eu-west-1'.*region_name"):
        s3_store.put("k", b"x")


def test_no_credentials_at_all_is_denied_without_a_request(s3_url: str, moto_url: str, http_log: HttpLog) -> None:
    kinds = [({}, AccessDenied), ({"profile": "absent"}, StoreError), ({"key": "alone"}, AccessDenied)]
    for options, kind in kinds:
        store = S3Store.from_url(s3_url, endpoint_url=moto_url, **options)
        with store, pytest.raises(kind, match="profile"):
            store.get("k")
    assert http_log.requests == []


def test_an_endpoint_that_does_not_answer_is_unavailable(s3_options: dict[str, Any]) -> None:
    nobody = {**s3_options, "endpoint_url": "http://127.0.0.1:9", "config_kwargs": _ONE_ATTEMPT}
    with S3Store("bucket", **nobody) as store:
        for operation in _operations(store).values():
            with pytest.raises(StoreUnavailable, match=r"no connection to 127\.0\.0\.1:9 .*endpoint_url"):
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


def test_a_key_that_cannot_be_deleted_is_named_and_the_others_are_gone(
    s3_store: S3Store, faulty_s3: S3Server
) -> None:
    body = (
        "<DeleteResult><Error><Key>some/prefix/kept</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
        "</DeleteResult>"
    )
    s3_store.put("9999", b"x")
    faulty_s3.set_faults(Fault("POST .*delete", "refuse", status=200, body=body))
    with pytest.raises(AccessDenied, match="'kept'"):
        s3_store.delete([*(f"{i:04d}" for i in range(1000)), "9999"])
    assert list(s3_store.list()) == []


def test_foreign_objects_that_no_key_can_name_are_not_listed(
    s3_store: S3Store, s3_server: S3Server, s3_bucket: str
) -> None:
    foreign = ["", "folder/", "a//b", "star*", ".ckptstore-x/y"]
    s3_server.put_objects(s3_bucket, {f"some/prefix/{key}": b"x" for key in [*foreign, "folder/k"]})
    assert [info.key for info in s3_store.list()] == ["folder/k"]
    assert list(s3_store.list_prefixes()) == ["a/", "folder/"]


def test_a_key_too_long_together_with_the_prefix_is_refused(s3_bucket: str, s3_options: dict[str, Any]) -> None:
    with S3Store(s3_bucket, "p" * 190, **s3_options) as store, pytest.raises(InvalidKey, match="1024"):
        store.put("/".join(["k" * 99] * 9), b"x")
