"""The GCS store behind a faulty network: how many requests, what is repeated, and what is never published."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from urllib.parse import unquote

import pytest

from ckptstore.errors import (
    AccessDenied,
    KeyExists,
    KeyNotFound,
    ObjectChanged,
    StoreError,
    StoreNotFound,
    StoreUnavailable,
)
from ckptstore.objects import ByteRange
from ckptstore_backends._retries import RetryPolicy
from ckptstore_backends.gcs import GCSStore
from tests.fake_gcs import FakeGCS
from tests.proxy import Answer, Cut, FlipAnswer, FlipRequest, Lose, Proxy, Reset, Stall, Truncate, proxy_to

_MIB = 1024 * 1024
_CHUNKS = [b"0123456789abcdef" * 4096] * 40  # more than two parts of 1 MiB
_SIZE = 40 * 65536


@pytest.fixture
def network(fake_gcs_server: FakeGCS) -> Iterator[Proxy]:
    with proxy_to(fake_gcs_server.url) as proxy:
        yield proxy


@pytest.fixture
def bucket(fake_gcs_server: FakeGCS) -> str:
    return fake_gcs_server.new_bucket()


@pytest.fixture
def store(bucket: str, network: Proxy) -> Iterator[GCSStore]:
    with GCSStore(bucket, "p", endpoint_url=network.url, token="anon", deadline_s=20) as store:
        store._gcsfs.part_bytes = _MIB
        yield store


def _methods(network: Proxy) -> list[str]:
    return [request.start.partition(" ")[0] for request in network.requests]


def test_each_act_takes_as_few_requests_as_it_can(store: GCSStore, network: Proxy) -> None:
    store.put("a/k", b"x" * 1000)
    acts = {
        "put": (lambda: store.put("a/k", b"x" * 1000), 1),
        "put of an iterable": (lambda: store.put("a/i", iter([b"x"] * 10)), 1),
        "create": (lambda: store.put("a/new", b"x", overwrite=False), 1),
        "get": (lambda: store.get("a/k"), 1),
        "near ranges": (
            lambda: list(store.get_ranges("a/k", [ByteRange(5, 3), ByteRange(500, 9), ByteRange(0, 1)])),
            1,
        ),
        "suffix": (lambda: list(store.get_ranges("a/k", [ByteRange(-10)])), 1),
        "stat": (lambda: store.stat("a/k"), 1),
        "list": (lambda: list(store.list()), 1),
        "list_prefixes": (lambda: list(store.list_prefixes()), 1),
        "copy": (lambda: store.copy("a/k", "b/k"), 2),
        "delete": (lambda: store.delete(["b/k"]), 1),
        "delete of 150": (lambda: store.delete(f"c/{i}" for i in range(150)), 2),
        "list_uploads": (lambda: list(store.list_uploads()), 0),
    }
    counts = {}
    for name, (act, _) in acts.items():
        network.faults = []
        act()
        counts[name] = len(network.requests)
    assert counts == {name: count for name, (_, count) in acts.items()}


def test_a_long_listing_takes_a_request_for_each_thousand(
    store: GCSStore, network: Proxy, fake_gcs_server: FakeGCS, bucket: str
) -> None:
    fake_gcs_server.put_many(bucket, {f"p/{i:04}": b"x" for i in range(1001)})
    listed = store.list()
    assert next(listed).key == "0000"
    assert len(network.requests) == 1
    assert len(list(listed)) == 1000
    assert len(network.requests) == 2


def test_opening_and_closing_make_no_request(bucket: str, network: Proxy) -> None:
    with GCSStore(bucket, endpoint_url=network.url, token="anon") as store:
        assert store.capabilities.transfer == "gcsfs"
        list(store.get_ranges("k", []))
    assert network.requests == []


def test_a_version_is_the_generation_and_checksums_are_the_stores(store: GCSStore) -> None:
    info = store.put("k", b"123456789")
    assert info.version.isdecimal()
    assert dict(info.checksums) == {"crc32c": "e3069283", "md5": "25f9e794323b453885f5181f1b624d0b"}
    assert store.stat("k") == info == next(iter(store.list()))


_ONCE = {
    "429": Answer(429, "rateLimitExceeded"),
    "403 of a rate limit": Answer(403, "rateLimitExceeded"),
    "408": Answer(408, "requestTimeout"),
    "500": Answer(500, "backendError"),
    "502": Answer(502, "badGateway"),
    "503 twice": Answer(503, "backendError", times=2),
    "reset": Reset(),
    "cut": Cut(),
    "lost answer": Lose(),
    "truncated answer": Truncate(),
}


@pytest.mark.parametrize("name", _ONCE)
def test_a_passing_fault_is_not_noticed(store: GCSStore, network: Proxy, name: str) -> None:
    def undisturbed(act):
        network.faults = [_ONCE[name]]
        return act()

    assert undisturbed(lambda: store.put("k", b"first")).size_bytes == 5
    assert bytes(undisturbed(lambda: store.get("k"))) == b"first"
    assert undisturbed(lambda: store.stat("k")).size_bytes == 5
    assert undisturbed(lambda: store.put("new", b"x", overwrite=False)).key == "new"
    assert [info.key for info in undisturbed(lambda: list(store.list()))] == ["k", "new"]
    assert undisturbed(lambda: store.copy("k", "copied")).size_bytes == 5
    undisturbed(lambda: store.delete(["k"]))
    undisturbed(lambda: store.delete(["new", "absent"]))
    assert [info.key for info in store.list()] == ["copied"]


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (400, "invalid", StoreError),
        (400, "userProjectMissing", AccessDenied),
        (401, "authError", AccessDenied),
        (403, "forbidden", AccessDenied),
        (412, "conditionNotMet", ObjectChanged),
    ],
)
def test_a_refusal_is_final(
    store: GCSStore, network: Proxy, status: int, reason: str, kind: type[StoreError]
) -> None:
    for act in (lambda: store.put("k", b"x"), lambda: store.get("k"), lambda: list(store.list())):
        network.faults = [Answer(status, reason, nth=None)]
        with pytest.raises(kind, match=reason) as raised:
            act()
        assert type(raised.value) is kind
        assert len(network.requests) == 1


def test_requests_without_credentials_that_are_refused_say_what_to_set(store: GCSStore, network: Proxy) -> None:
    network.faults = [Answer(401, "required", nth=None)]
    with pytest.raises(AccessDenied, match="without credentials; set GOOGLE_APPLICATION_CREDENTIALS"):
        store.stat("k")


def test_a_missing_bucket_is_told_from_a_missing_key(store: GCSStore, network: Proxy) -> None:
    store.put("there", b"x")
    absent: list[Callable[[], object]] = [
        lambda: store.get("k"),
        lambda: store.stat("k"),
        lambda: store.copy("k", "there"),
    ]
    for act in absent:
        with pytest.raises(KeyNotFound):
            act()
    with GCSStore("no-such-bucket", endpoint_url=network.url, token="anon") as nowhere:
        acts: list[Callable[[], object]] = [
            lambda: nowhere.get("k"),
            lambda: list(nowhere.get_ranges("k", [ByteRange(0, 1)])),
            lambda: nowhere.stat("k"),
            lambda: nowhere.put("k", b"x"),
            lambda: nowhere.put("k", iter(_CHUNKS)),
            lambda: nowhere.put("k", b"x", overwrite=False),
            lambda: list(nowhere.list()),
            lambda: list(nowhere.list_prefixes()),
            lambda: nowhere.copy("k", "l"),
        ]
        for act in acts:
            with pytest.raises(StoreNotFound, match="create the bucket, or correct its name"):
                act()


def test_a_bucket_whose_listing_is_denied_counts_as_there(store: GCSStore, network: Proxy) -> None:
    network.faults = [Answer(403, "forbidden", target="maxResults=1&", nth=None)]
    with pytest.raises(KeyNotFound):
        store.stat("absent")


def test_a_silent_store_is_unavailable(bucket: str, network: Proxy) -> None:
    network.faults = [Stall(nth=None)]
    with (
        GCSStore(bucket, endpoint_url=network.url, token="anon", deadline_s=0.5) as store,
        pytest.raises(StoreUnavailable, match="no answer"),
    ):
        store.get("k")


def test_a_store_that_cannot_be_reached_is_unavailable(bucket: str, fake_gcs_server: FakeGCS) -> None:
    with proxy_to(fake_gcs_server.url) as gone:
        pass
    with (
        GCSStore(bucket, endpoint_url=gone.url, token="anon", deadline_s=0.5) as store,
        pytest.raises(StoreUnavailable, match="check endpoint_url and the network"),
    ):
        store.put("k", b"x")


def test_a_server_that_speaks_something_else_is_named(store: GCSStore, network: Proxy) -> None:
    store.put("k", b"not json")
    network.faults = [FlipAnswer(nth=None)]
    with pytest.raises(StoreUnavailable, match="not the JSON of GCS"):
        store.stat("k")


def test_a_create_whose_answer_was_lost_finds_its_own_object(store: GCSStore, network: Proxy) -> None:
    network.faults = [Lose(target="uploadType=multipart")]
    info = store.put("k", b"mine", overwrite=False)
    assert info == store.stat("k")
    assert [request.start.partition(" ")[0] for request in network.requests][:3] == ["POST", "POST", "GET"]
    with pytest.raises(KeyExists):
        store.put("k", b"theirs", overwrite=False)


def test_a_create_that_another_writer_won_is_lost_however_often_it_is_tried(store: GCSStore, network: Proxy) -> None:
    store.put("k", b"theirs")
    network.faults = [Lose(target="uploadType=multipart")]
    with pytest.raises(KeyExists):
        store.put("k", b"mine", overwrite=False)
    assert bytes(store.get("k")) == b"theirs"


def test_creates_are_refused_where_the_server_ignores_preconditions(bucket: str, network: Proxy) -> None:
    with GCSStore(bucket, endpoint_url=network.url, token="anon", atomic_create=False) as store:
        assert not store.capabilities.atomic_create
        with pytest.raises(NotImplementedError):
            store.put("k", b"x", overwrite=False)
    assert network.requests == []


def test_a_long_stream_goes_up_in_one_session(store: GCSStore, network: Proxy) -> None:
    info = store.put("k", iter(_CHUNKS))
    assert info == store.stat("k")
    assert info.size_bytes == _SIZE
    assert _methods(network)[:4] == ["POST", "PUT", "PUT", "PUT"]
    assert bytes(store.get("k")) == b"".join(_CHUNKS)


def test_a_refused_chunk_is_sent_again(store: GCSStore, network: Proxy) -> None:
    network.faults = [Answer(503, "backendError", target="^PUT", nth=2)]
    store.put("k", iter(_CHUNKS))
    assert _methods(network) == ["POST", "PUT", "PUT", "PUT", "PUT"]
    assert bytes(store.get("k")) == b"".join(_CHUNKS)


_BROKEN_CHUNKS = [Lose(target="^PUT", nth=2), Reset(target="^PUT", nth=2), Cut(target="^PUT", nth=2)]


@pytest.mark.parametrize("fault", _BROKEN_CHUNKS, ids=lambda fault: type(fault).__name__)
def test_an_emulator_is_not_asked_what_it_has_of_a_broken_chunk(store: GCSStore, network: Proxy, fault) -> None:
    # fake-gcs-server publishes what it has when it is asked, and takes a repeated chunk for new bytes
    network.faults = [fault]
    store.put("k", iter(_CHUNKS))
    assert _methods(network) == ["POST", "PUT", "PUT", "GET", "DELETE", "POST", "PUT", "PUT", "PUT"]
    assert bytes(store.get("k")) == b"".join(_CHUNKS)


def test_a_stream_of_which_not_enough_was_kept_is_not_begun_again(store: GCSStore, network: Proxy) -> None:
    store._gcsfs.kept_bytes = _MIB
    store.put("k", b"old")
    network.faults = [Reset(target="^PUT", nth=2)]
    with pytest.raises(StoreUnavailable, match="no answer"):
        store.put("k", iter(_CHUNKS))
    assert _methods(network)[-1] == "DELETE"
    assert bytes(store.get("k")) == b"old"


def test_an_upload_whose_last_answer_was_lost_finds_its_own_object(store: GCSStore, network: Proxy) -> None:
    network.faults = [Lose(target="^PUT", nth=3)]
    assert store.put("k", iter(_CHUNKS)).size_bytes == _SIZE
    assert bytes(store.get("k")) == b"".join(_CHUNKS)


def test_a_stream_that_fails_cancels_its_session(store: GCSStore, network: Proxy) -> None:
    def failing() -> Iterator[bytes]:
        yield from _CHUNKS
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.put("k", failing())
    assert "DELETE" in _methods(network)
    assert list(store.list()) == []


@pytest.mark.parametrize("data", [b"x" * 1000, _CHUNKS], ids=["one request", "session"])
def test_bytes_damaged_on_their_way_up_are_sent_again(store: GCSStore, network: Proxy, data) -> None:
    network.faults = [FlipRequest(target="uploadType=multipart|^PUT", offset=500)]
    store.put("k", data)
    assert "DELETE" in _methods(network)
    assert bytes(store.get("k")) == b"".join(data if isinstance(data, list) else [data])


def test_bytes_that_are_always_damaged_on_their_way_up_are_not_kept(
    store: GCSStore, network: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store._client, "retries", RetryPolicy(deadline_s=0.3))
    network.faults = [FlipRequest(target="uploadType=multipart", offset=500, nth=None)]
    with pytest.raises(StoreUnavailable, match="damaged on the way, and were removed again"):
        store.put("k", b"x" * 1000)
    assert list(store.list()) == []


def test_bytes_damaged_on_their_way_down_are_asked_for_again(store: GCSStore, network: Proxy) -> None:
    store.put("k", b"x" * 1000)
    network.faults = [FlipAnswer(target="alt=media", offset=500)]
    assert bytes(store.get("k")) == b"x" * 1000
    assert len(network.requests) == 2


def test_what_of_many_could_not_be_deleted_is_named(store: GCSStore, network: Proxy) -> None:
    store.put("a", b"x")
    network.faults = [Answer(403, "forbidden", target="^DELETE")]
    with pytest.raises(AccessDenied, match="delete 'a'"):
        store.delete(["a"])
    network.faults = [Answer(403, "forbidden", target="batch")]
    with pytest.raises(AccessDenied, match="delete 'a' and 1 others"):
        store.delete(["a", "b"])


def test_keys_arrive_quoted_once(store: GCSStore, network: Proxy) -> None:
    key = "a+b/100%/.hidden #1/é"
    store.put(key, b"x")
    network.faults = []
    store.get(key)
    assert unquote(network.requests[0].start.split()[1].partition("?")[0]).endswith(f"/o/p/{key}")


def test_objects_outside_the_grammar_are_passed_over(store: GCSStore, fake_gcs_server: FakeGCS, bucket: str) -> None:
    for key in ("p/good", "p/bad*", "p/folder/", "elsewhere"):
        fake_gcs_server.put(bucket, key, b"x")
    assert [info.key for info in store.list()] == ["good"]


@pytest.mark.parametrize("bulk", ["gcsfs", "obstore"])
def test_a_put_while_the_interpreter_exits_arrives(
    fake_gcs_server: FakeGCS, bucket: str, gcs_bulk_options: dict[str, object], bulk: str
) -> None:
    # a name is looked up in a thread, and pools of threads take no work then
    endpoint = str(gcs_bulk_options["endpoint_url"]).replace("127.0.0.1", "localhost")
    program = f"""
import atexit
from ckptstore_backends.gcs import GCSStore
store = GCSStore({bucket!r}, endpoint_url={endpoint!r}, token="anon", bulk={bulk!r}, deadline_s=5)
atexit.register(lambda: store.put("large", b"x" * 6_000_000))
atexit.register(lambda: store.put("small", b"x"))
"""
    ended = subprocess.run([sys.executable, "-c", program], check=True, timeout=60, capture_output=True)
    assert ended.stderr == b""
    assert fake_gcs_server.get(bucket, "small") == b"x"
    assert fake_gcs_server.get(bucket, "large") == b"x" * 6_000_000
