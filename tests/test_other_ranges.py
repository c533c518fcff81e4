"""A store that answers other bytes than were asked for: never handed out, asked for again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, Self

import pytest

from ckptstore.errors import StoreUnavailable
from ckptstore.objects import ByteRange
from ckptstore.store import Store, open_store
from ckptstore_backends._extent import told_extent
from ckptstore_backends._range_reader import read_ranges
from ckptstore_backends._ranges import RangeLimits
from ckptstore_backends._transfer import Chunk, OtherRange
from tests.fake_gcs import FakeGCS
from tests.proxy import Fault, Link, Message, Proxy, proxy_to
from tests.servers import S3Server

_DATA = bytes(range(100))
_THROUGH_S3FS = {"s3_additional_kwargs": {"StorageClass": "STANDARD"}}  # which obstore cannot give
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


@dataclass(frozen=True, slots=True)
class _Shifts(Fault):
    """Answer what lies ten bytes further, and more of it, and say so."""

    def act(self, link: Link) -> None:
        first, last = map(int, _RANGE.fullmatch(link.request.header("range")).groups())  # type: ignore[union-attr]
        link.answer(link.forward(_with_range(link.request, [("Range", f"bytes={first + 10}-{last + 15}")])))


@dataclass(frozen=True, slots=True)
class _IgnoresRanges(Fault):
    """Answer with the whole object, or with half of it under its whole length."""

    only_bytes: int | None = None

    def act(self, link: Link) -> None:
        link.answer(link.forward(_with_range(link.request, [])), only_bytes=self.only_bytes)


def _with_range(request: Message, added: Sequence[tuple[str, str]]) -> Message:
    kept = [header for header in request.headers if header[0].lower() != "range"]
    return replace(request, headers=[*kept, *added])


@pytest.fixture(params=["s3 obstore", "s3 s3fs", "gcs gcsfs"])
def behind_proxy(request: pytest.FixtureRequest) -> Iterator[tuple[Store, Proxy]]:
    """A store that holds an object, and the proxy before it; soon given up."""
    server, _, engine = request.param.partition(" ")
    url, options = request.getfixturevalue(f"{server}_url"), request.getfixturevalue(f"{server}_options")
    how = _THROUGH_S3FS if engine == "s3fs" else {}
    with (
        proxy_to(options["endpoint_url"]) as proxy,
        open_store(url, **{**options, **how, "endpoint_url": proxy.url, "deadline_s": 2}) as store,
    ):
        assert store.capabilities.transfer == engine
        store.put("k", _DATA)
        yield store, proxy


def _five(store: Store) -> bytes:
    return bytes(next(iter(store.get_ranges("k", [ByteRange(50, 5)]))))


def test_another_range_is_asked_for_again(behind_proxy: tuple[Store, Proxy]) -> None:
    store, proxy = behind_proxy
    proxy.faults = [_Shifts(target="^GET ")]
    assert _five(store) == _DATA[50:55]
    assert len(proxy.requests) == 2


def test_another_range_every_time_is_an_error(behind_proxy: tuple[Store, Proxy]) -> None:
    store, proxy = behind_proxy
    proxy.faults = [_Shifts(target="^GET ", nth=None)]
    with pytest.raises(StoreUnavailable, match="'k'"):
        _five(store)


@pytest.fixture
def ignoring(s3_url: str, s3_options: dict[str, Any], s3_server: S3Server) -> Iterator[tuple[Store, Proxy]]:
    with (
        proxy_to(s3_server.url) as proxy,
        open_store(s3_url, **{**s3_options, **_THROUGH_S3FS, "endpoint_url": proxy.url}) as store,
    ):
        store.put("k", _DATA)
        yield store, proxy


def test_a_server_that_sends_whole_objects_is_read(ignoring: tuple[Store, Proxy]) -> None:
    store, proxy = ignoring
    proxy.faults = [_IgnoresRanges(target="^GET ", nth=None)]
    ranges = [ByteRange(50, 5), ByteRange(-3), ByteRange(7), ByteRange(200, 4)]
    expected = [_DATA[50:55], _DATA[-3:], _DATA[7:], b""]
    assert [bytes(part) for part in store.get_ranges("k", ranges)] == expected


def test_whole_objects_that_are_cut_short_are_not_put_together_of_two_beginnings(
    ignoring: tuple[Store, Proxy],
) -> None:
    store, proxy = ignoring
    proxy.faults = [_IgnoresRanges(target="^GET ", only_bytes=40), _IgnoresRanges(target="^GET ", nth=None)]
    assert bytes(store.get("k")) == _DATA
    assert len(proxy.requests) == 3


def test_google_that_sends_whole_objects_is_read(gcs_url: str, fake_gcs_server: FakeGCS) -> None:
    with (
        proxy_to(fake_gcs_server.url) as proxy,
        open_store(gcs_url, endpoint_url=proxy.url, token="anon") as store,
    ):
        store.put("k", _DATA)
        proxy.faults = [_IgnoresRanges(target="^GET ", nth=None)]
        assert _five(store) == _DATA[50:55]


@pytest.mark.parametrize(
    ("told", "size_bytes"),
    [
        ("bytes 50-54/*", 5),
        ("bytes */100", 5),
        ("bytes 50-59/100", 5),
        ("bytes 54-50/100", 5),
        ("items 50-54/100", 5),
        ("bytes 51-55/100", 5),
        ("bytes 45-49/100", 5),
        ("bytes 50-53/100", 4),
        ("bytes 50-54/52", 5),
        ("", 5),
    ],
)
def test_an_answer_that_does_not_hold_the_range_is_refused(told: str, size_bytes: int) -> None:
    with pytest.raises(OtherRange, match="cannot get 'k'"):
        told_extent(told, size_bytes, "get 'k'").check(ByteRange(50, 5), "get 'k'")


@pytest.mark.parametrize(
    ("told", "size_bytes", "wanted"),
    [
        ("bytes 50-54/100", 5, ByteRange(50, 5)),
        ("bytes 40-99/100", 60, ByteRange(50, 5)),
        ("bytes 98-99/100", 2, ByteRange(98, 5)),
        ("bytes 98-99/100", 2, ByteRange(-2)),
        (None, 100, ByteRange(50, 5)),
        (None, 0, ByteRange(-5)),
        (None, 100, ByteRange(200, 5)),
    ],
)
def test_an_answer_that_holds_the_range_is_taken(told: str | None, size_bytes: int, wanted: ByteRange) -> None:
    extent = told_extent(told, size_bytes, "get 'k'")
    extent.check(wanted, "get 'k'")
    assert extent.total_bytes == (size_bytes if told is None else 100)


class _Careless:
    """A source that answers each range but the first with what lies ten bytes further."""

    def __init__(self) -> None:
        self._first = True

    def fetch(self, wanted: ByteRange) -> Future[Chunk]:
        start = wanted.start if self._first else wanted.start + 10
        self._first = False
        answered: Future[Chunk] = Future()
        answered.set_result(Chunk(memoryview(_DATA)[start : start + 10], start, len(_DATA), "1"))
        return answered

    def head(self) -> Chunk:
        return Chunk(memoryview(b""), 0, len(_DATA), "1")

    def pinned(self, version: str) -> Self:  # there is one
        return self


def test_no_range_is_cut_from_what_begins_behind_it() -> None:
    ranges = [ByteRange(0, 5), ByteRange(50, 5)]
    first, *rest = read_ranges(_Careless(), ranges[:1], RangeLimits(gap_bytes=0))
    assert (bytes(first), rest) == (_DATA[:5], [])
    with pytest.raises(StoreUnavailable, match="other bytes than 50 to 55"):
        list(read_ranges(_Careless(), ranges, RangeLimits(gap_bytes=0)))
