"""What the S3 store does on the wire: how many requests, and which bytes."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ckptstore.errors import (
    ObjectChanged,
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
def hasty(s3_url: str, s3_options: dict[str, Any]) -> Iterator[S3Store]:
    """The same store, which soon gives up."""
    with S3Store.from_url(s3_url, **s3_options, deadline_s=1) as opened:
        yield opened


@pytest.fixture(params=["obstore", "s3fs"])
def s3_options(s3_options: dict[str, Any], request: pytest.FixtureRequest) -> dict[str, Any]:
    """The same server through either engine: obstore cannot give a storage class."""
    if request.param == "obstore":
        return s3_options
    return {**s3_options, "s3_additional_kwargs": {"StorageClass": "STANDARD"}}


def test_opening_makes_no_request(s3_url: str, s3_options: dict[str, Any], http_log: HttpLog) -> None:
    with open_store(s3_url, **s3_options) as store:
        assert store.capabilities.atomic_create
        assert store.path("k").name == "k"
    assert http_log.requests == []


def test_small_objects_take_one_request_each_way(s3_store: S3Store, http_log: HttpLog) -> None:
    steps: list[tuple[Callable[[], object], dict[str, int]]] = [
        (lambda: s3_store.put("k", b"x" * _MIB), {"PUT": 1}),
        (lambda: s3_store.put("k", iter([b"x" * _MIB] * 16)), {"PUT": 1}),
        (lambda: s3_store.put("new", b"x", overwrite=False), {"PUT": 1}),
        (lambda: s3_store.get("k"), {"GET": 1}),
        (lambda: s3_store.stat("k"), {"HEAD": 1}),
        (lambda: s3_store.copy("k", "copied"), {"HEAD": 1, "PUT": 1}),
        (lambda: s3_store.delete(["k"]), {"POST": 1}),
        (lambda: s3_store.delete([]), {}),
    ]
    for act, expected in steps:
        http_log.clear()
        act()
        assert http_log.count() == expected


def test_an_empty_object_takes_one_get(s3_store: S3Store, http_log: HttpLog) -> None:
    s3_store.put("k", b"")
    http_log.clear()
    assert bytes(s3_store.get("k")) == b""
    assert http_log.count() == {"GET": 1}


def test_a_listing_takes_one_request_per_thousand_and_only_when_asked(
    s3_store: S3Store, s3_server: S3Server, s3_bucket: str, http_log: HttpLog
) -> None:
    s3_server.put_objects(s3_bucket, {f"some/prefix/{i:04d}": b"" for i in range(2500)})
    listing = s3_store.list()
    assert http_log.count() == {}
    assert len(list(itertools.islice(listing, 1000))) == 1000
    assert http_log.count() == {"GET": 1}
    assert len(list(listing)) == 1500
    assert http_log.count() == {"GET": 3}


def test_deleting_takes_one_request_per_thousand_with_a_checksum_that_old_servers_know(
    s3_store: S3Store, http_log: HttpLog
) -> None:
    s3_store.delete(f"{i:04d}" for i in range(1500))
    assert http_log.count() == {"POST": 2}
    assert all("CONTENT_MD5" in request.headers for request in http_log.requests)


def test_near_ranges_share_one_request(s3_store: S3Store, http_log: HttpLog) -> None:
    data = random.Random(0).randbytes(4 * _MIB)
    s3_store.put("k", data)
    http_log.clear()
    starts = [i * 40_000 for i in range(100)]
    parts = s3_store.get_ranges("k", [ByteRange(start, 1000) for start in starts])
    assert [bytes(part) for part in parts] == [data[start : start + 1000] for start in starts]
    assert http_log.count() == {"GET": 1}


def test_far_ranges_are_separate_requests_of_one_version(s3_store: S3Store, http_log: HttpLog) -> None:
    version = s3_store.put("k", bytes(8 * _MIB)).version
    http_log.clear()
    assert len(list(s3_store.get_ranges("k", [ByteRange(i * 2 * _MIB, 10) for i in range(4)]))) == 4
    first, *others = http_log.requests
    assert "IF_MATCH" not in first.headers
    assert [request.headers["IF_MATCH"] for request in others] == [f'"{version}"'] * 3


def test_nothing_is_requested_before_the_first_range_is_asked_for(s3_store: S3Store, http_log: HttpLog) -> None:
    s3_store.put("k", b"abc")
    http_log.clear()
    parts = s3_store.get_ranges("k", [ByteRange(0)])
    assert http_log.requests == []
    assert bytes(next(parts)) == b"abc"


@pytest.mark.parametrize("seed", range(8))
def test_ranges_are_right_however_they_are_cut_into_requests(s3_store: S3Store, seed: int) -> None:
    dice = random.Random(seed)
    data = dice.randbytes(1000)
    s3_store.put("k", data)
    s3_store._range_limits = RangeLimits(
        gap_bytes=dice.choice([0, 3, 50]), request_bytes=37, window_bytes=80, requests=3
    )
    ranges = [_any_range(dice) for _ in range(12)]
    expected = [data[slice(*wanted.within(len(data)))] for wanted in ranges]
    assert [bytes(part) for part in s3_store.get_ranges("k", ranges)] == expected


def _any_range(dice: random.Random) -> ByteRange:
    start, length = dice.randrange(1100), dice.randrange(200)
    return dice.choice([ByteRange(start, length), ByteRange(start), ByteRange(-1 - start), ByteRange(start, 3)])


def test_a_server_that_ignores_the_condition_cannot_mix_versions(s3_store: S3Store, faulty_s3: S3Server) -> None:
    s3_store.put("k", b"abc")
    other = (
        ("ETag", '"other"'), ("Content-Range", "bytes 0-2/3"), ("Last-Modified", "Wed, 21 Oct 2026 07:28:00 GMT"),
    )  # fmt: skip
    faulty_s3.set_faults(Fault("GET .*/k", "refuse", status=206, body="xyz", headers=other))
    with pytest.raises(ObjectChanged):
        list(s3_store.get_ranges("k", [ByteRange(0)], version=s3_store.stat("k").version))


def test_a_server_that_sends_too_little_is_noticed(hasty: S3Store, faulty_s3: S3Server) -> None:
    hasty.put("k", b"abcdef")
    short = (("ETag", '"e"'), ("Content-Range", "bytes 0-2/6"), ("Last-Modified", "Wed, 21 Oct 2026 07:28:00 GMT"))
    faulty_s3.set_faults(Fault("GET .*/k", "refuse", times=-1, status=206, body="abc", headers=short))
    with pytest.raises(StoreUnavailable):
        hasty.get("k")


def test_a_large_object_is_read_in_parallel_requests(s3_store: S3Store, http_log: HttpLog) -> None:
    data = random.Random(1).randbytes(_MIB)
    s3_store.put("k", data)
    http_log.clear()
    s3_store._range_limits = RangeLimits(request_bytes=100_000)
    assert bytes(s3_store.get("k")) == data
    assert http_log.count() == {"GET": 11}


def test_ranges_of_a_replaced_object_are_refused(s3_store: S3Store) -> None:
    s3_store._range_limits = RangeLimits(gap_bytes=0, request_bytes=10, window_bytes=10)
    s3_store.put("k", b"a" * 100)
    parts = s3_store.get_ranges("k", [ByteRange(i * 10, 10) for i in range(10)])
    assert next(parts) == b"a" * 10
    s3_store.put("k", b"b" * 100)
    with pytest.raises(ObjectChanged, match="'k'"):
        list(parts)


def test_a_body_that_is_cut_short_is_taken_up_where_it_ended(
    s3_store: S3Store, faulty_s3: S3Server, http_log: HttpLog
) -> None:
    data = random.Random(2).randbytes(100_000)
    s3_store.put("k", data)
    http_log.clear()
    faulty_s3.set_faults(Fault("GET .*/k", "truncate", times=2))
    assert bytes(s3_store.get("k")) == data
    assert [request.headers["RANGE"].partition("-")[0] for request in http_log.requests] == [
        "bytes=0", "bytes=50000", "bytes=75000",
    ]  # fmt: skip


def test_a_body_that_is_always_cut_short_is_an_error(hasty: S3Store, faulty_s3: S3Server) -> None:
    hasty.put("k", bytes(100_000))
    faulty_s3.set_faults(Fault("GET .*/k", "truncate", times=-1))
    with pytest.raises(StoreUnavailable, match="'k'"):
        hasty.get("k")


def test_a_copy_between_buckets_of_one_server_moves_no_bytes_through_here(
    s3_store: S3Store, s3_server: S3Server, s3_options: dict[str, Any], http_log: HttpLog
) -> None:
    data = random.Random(3).randbytes(12 * _MIB)
    s3_store.put("k", data)
    s3_server.request("PUT", "another-bucket")
    with S3Store("another-bucket", "x", **s3_options) as other:
        other._copy_limits = CopyLimits(single_bytes=10 * _MIB, part_bytes=5 * _MIB)
        http_log.clear()
        assert s3_store.copy("k", "in parts + 100%", target=other).size_bytes == len(data)
        listed = [request for request in http_log.requests if "uploads" in request.query and request.method == "GET"]
        assert http_log.count() - Counter(GET=len(listed)) == {"HEAD": 1, "POST": 2, "PUT": 3}
        assert bytes(other.get("in parts + 100%")) == data


@pytest.mark.parametrize("limits", [CopyLimits(), CopyLimits(single_bytes=0)])
def test_a_copy_of_a_source_that_was_replaced_meanwhile_is_refused(
    s3_store: S3Store, faulty_s3: S3Server, http_log: HttpLog, limits: CopyLimits
) -> None:
    """The simulated S3 ignores this precondition of copies, so the condition is looked at and its refusal played."""
    version = s3_store.put("k", b"old").version
    s3_store._copy_limits = limits
    faulty_s3.set_faults(Fault("PUT .*/copied", "refuse", status=412, code="PreconditionFailed"))
    with pytest.raises(ObjectChanged):
        s3_store.copy("k", "copied")
    conditions = [request.headers.get("X_AMZ_COPY_SOURCE_IF_MATCH") for request in http_log.requests]
    assert f'"{version}"' in conditions
    assert [info.key for info in s3_store.list()] == ["k"]
    assert list(s3_store.list_uploads()) == []
