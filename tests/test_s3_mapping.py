"""Which engine moves the bytes of an S3 store, and what it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ckptstore.errors import StoreNotFound, UnsupportedOperation
from ckptstore_backends._s3_mapping import unmapped
from ckptstore_backends.s3 import CopyLimits, S3Store
from tests.servers import Fault, HttpLog, S3Server

_KEYS = {"key": "k", "secret": "s"}
_MIB = 1024 * 1024


def _written_as(bucket: str, **options: Any) -> Any:
    """Return the settings of obstore's client; nobody is asked whether the server is there."""
    with S3Store(bucket, **{**_KEYS, **options}) as store:
        store._client._reached = True
        return store._obstore._client.service.connect().writing


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"s3_additional_kwargs": {"StorageClass": "STANDARD_IA"}}, "s3_additional_kwargs['StorageClass']"),
        ({"s3_additional_kwargs": {"Tagging": "a=b"}}, "s3_additional_kwargs['Tagging']"),
        ({"s3_additional_kwargs": {"SSECustomerKey": "x"}}, "s3_additional_kwargs['SSECustomerKey']"),
        (
            {"s3_additional_kwargs": {"SSEKMSEncryptionContext": "x"}},
            "s3_additional_kwargs['SSEKMSEncryptionContext']",
        ),
        ({"requester_pays": True}, "requester_pays"),
        ({"config_kwargs": {"proxies": {"https": "http://p:1"}}}, "config_kwargs['proxies']"),
        ({"config_kwargs": {"signature_version": "s3"}}, "config_kwargs['signature_version']"),
        (
            {"config_kwargs": {"s3": {"use_accelerate_endpoint": True}}},
            "config_kwargs['s3']['use_accelerate_endpoint']",
        ),
        ({"client_kwargs": {"api_version": "2006-03-01"}}, "client_kwargs['api_version']"),
    ],
)
def test_what_obstore_cannot_do_goes_through_s3fs_and_is_said(options: dict[str, Any], named: str) -> None:
    with S3Store("bucket", **_KEYS, **options) as store:
        assert store.capabilities.transfer == "s3fs"
        assert any(named in limit for limit in store.capabilities.limits)


def test_what_obstore_can_do_goes_through_it(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "endpoint_url": "https://h",
        "client_kwargs": {"region_name": "eu-west-1", "verify": False},
        "config_kwargs": {"retries": {"total_max_attempts": 2}, "s3": {"addressing_style": "path"}},
        "s3_additional_kwargs": {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "arn:key"},
        "max_concurrency": 3,
        "deadline_s": 20,
    }
    assert unmapped("bucket", options) == ()
    assert unmapped("arn:aws:s3:eu-west-1:1:accesspoint/a", {}) == ("an access point or directory bucket",)


_AES = {"ServerSideEncryption": "AES256"}
_KMS = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "arn:aws:kms:::key/k", "BucketKeyEnabled": True}
_OWN_KEY = {
    "SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32,
    "CopySourceSSECustomerAlgorithm": "AES256", "CopySourceSSECustomerKey": "k" * 32,
}  # fmt: skip


@pytest.mark.parametrize(
    ("options", "header", "value", "on_parts"),
    [
        ({"s3_additional_kwargs": {"StorageClass": "STANDARD_IA"}}, "STORAGE_CLASS", "STANDARD_IA", False),
        ({"s3_additional_kwargs": {"Tagging": "team=vision"}}, "TAGGING", "team=vision", False),
        ({"s3_additional_kwargs": _AES}, "SERVER_SIDE_ENCRYPTION", "AES256", False),
        ({"s3_additional_kwargs": {**_AES, "Tagging": "a=b"}}, "SERVER_SIDE_ENCRYPTION", "AES256", False),
        ({"s3_additional_kwargs": _KMS}, "SERVER_SIDE_ENCRYPTION_BUCKET_KEY_ENABLED", "true", False),
        ({"s3_additional_kwargs": {**_KMS, "Tagging": "a=b"}}, "SERVER_SIDE_ENCRYPTION_BUCKET_KEY_ENABLED", "true",
         False),
        ({"s3_additional_kwargs": _OWN_KEY}, "SERVER_SIDE_ENCRYPTION_CUSTOMER_ALGORITHM", "AES256", True),
        ({"requester_pays": True}, "REQUEST_PAYER", "requester", True),
    ],
)  # fmt: skip
def test_what_is_asked_of_an_object_reaches_the_server_with_each_write(
    s3_url: str, s3_options: dict[str, Any], http_log: HttpLog,
    options: dict[str, Any], header: str, value: str, on_parts: bool,
) -> None:  # fmt: skip
    with S3Store.from_url(s3_url, **s3_options, **options) as store:
        store.put("k", b"x")
        store.put("large", iter([bytes(6 * _MIB)] * 3))
        store.put("new", b"x", overwrite=False)
        store.copy("k", "copied")
        store._copy_limits = CopyLimits(single_bytes=0, part_bytes=9 * _MIB)
        store.copy("large", "copied in parts")
        assert len(store.get("copied in parts")) == 18 * _MIB
    requests = http_log.requests
    parts = [request for request in requests if "partNumber" in request.query]
    writes = [
        request
        for request in requests
        if (request.method == "PUT" and request not in parts)
        or (request.method == "POST" and "uploads" in request.query)
    ]
    assert [request.headers[f"X_AMZ_{header}"].lower() for request in writes] == [value.lower()] * 5
    sent_again = parts + [
        request for request in requests if request.method == "GET" and "uploads" not in request.query
    ]
    if on_parts:
        assert {request.headers[f"X_AMZ_{header}"] for request in sent_again} == {value}


def test_an_encryption_key_reaches_the_server_through_obstore(
    s3_url: str, s3_options: dict[str, Any], http_log: HttpLog
) -> None:
    extra = {"s3_additional_kwargs": {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "arn:aws:kms:::key/k"}}
    with S3Store.from_url(s3_url, **s3_options, **extra) as store:
        assert store.capabilities.transfer == "obstore"
        store.put("k", b"x")
        store.put("large", iter([bytes(6 * 1024 * 1024)] * 3))
    put, created, *_ = http_log.requests
    for request in (put, created):
        assert request.headers["X_AMZ_SERVER_SIDE_ENCRYPTION"] == "aws:kms"
        assert request.headers["X_AMZ_SERVER_SIDE_ENCRYPTION_AWS_KMS_KEY_ID"] == "arn:aws:kms:::key/k"


def test_plain_http_signs_the_body_and_https_does_not(
    s3_url: str, s3_options: dict[str, Any], http_log: HttpLog
) -> None:
    with S3Store.from_url(s3_url, **s3_options) as store:
        store.put("k", b"x")
    (request,) = http_log.requests
    digest_of_x = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    assert request.headers["X_AMZ_CONTENT_SHA256"] == digest_of_x
    assert _written_as("bucket", endpoint_url="http://h").config["unsigned_payload"] == "false"
    assert _written_as("bucket", endpoint_url="https://h").config["unsigned_payload"] == "true"


def test_the_bucket_is_in_the_host_name_where_amazon_wants_it() -> None:
    east, west = {"region_name": "us-east-1"}, {"region_name": "eu-west-1"}
    style = {"s3": {"addressing_style": "virtual"}}
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("bucket", {"client_kwargs": east}, "https://bucket.s3.us-east-1.amazonaws.com"),
        ("bucket", {"client_kwargs": west}, "https://bucket.s3.eu-west-1.amazonaws.com"),
        ("bucket", {"client_kwargs": {"region_name": "cn-north-1"}}, "https://bucket.s3.cn-north-1.amazonaws.com.cn"),
        ("with.dots", {"client_kwargs": west}, "https://s3.eu-west-1.amazonaws.com"),
        ("bucket", {"endpoint_url": "http://h:9000"}, "http://h:9000"),
        ("bucket", {"endpoint_url": "https://h:9000/path/", "config_kwargs": style}, "https://bucket.h:9000/path"),
        ("bucket", {"client_kwargs": west, "config_kwargs": {"s3": {"addressing_style": "path"}}},
         "https://s3.eu-west-1.amazonaws.com"),
    ]  # fmt: skip
    for bucket, options, endpoint in cases:
        config = _written_as(bucket, **options).config
        in_host_name = str(f"//{bucket}." in endpoint).lower()
        assert (config["endpoint"], config["virtual_hosted_style_request"]) == (endpoint, in_host_name)


def test_a_bucket_in_another_region_is_followed(
    s3_url: str, s3_options: dict[str, Any], faulty_s3: S3Server, http_log: HttpLog
) -> None:
    body = "<Error><Code>AuthorizationHeaderMalformed</Code><Message>no</Message><Region>eu-west-1</Region></Error>"
    wrong = Fault("", "refuse", status=400, body=body)
    with S3Store.from_url(s3_url, **s3_options) as store:
        faulty_s3.set_faults(wrong)
        store.put("large", iter([bytes(6 * 1024 * 1024)] * 3))
        sent = [request for request in http_log.requests if request.method in {"PUT", "POST"}][1:]
        assert all("/eu-west-1/s3/" in request.headers["AUTHORIZATION"] for request in sent)
    with S3Store.from_url(s3_url, **s3_options) as store:
        faulty_s3.set_faults(wrong)
        assert len(store.get("large")) == 18 * 1024 * 1024


def test_a_server_without_conditional_writes_is_never_raced(s3_url: str, s3_options: dict[str, Any]) -> None:
    with S3Store.from_url(s3_url, **s3_options, atomic_create=False) as store:
        assert not store.capabilities.atomic_create
        with pytest.raises(UnsupportedOperation):
            store.put("k", b"x", overwrite=False)
        store.put("k", b"x")


def test_a_missing_bucket_is_not_a_missing_key(s3_options: dict[str, Any]) -> None:
    with (
        S3Store("no-such-bucket-at-all", **s3_options) as store,
        pytest.raises(StoreNotFound, match="create the bucket"),
    ):
        store.stat("k")
