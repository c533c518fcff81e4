"""FaultyStore does what its faults say, and nothing else."""

from __future__ import annotations

import pytest

from ckptstore.errors import KeyExists, StoreFull, StoreUnavailable, UnsupportedOperation
from ckptstore.objects import ByteRange
from ckptstore.testing import Call, CutPut, Fail, Fault, FaultyStore, FlipBit, Killed, Truncate
from ckptstore_backends.local import LocalStore

DATA = bytes(range(100))


@pytest.fixture
def inner(tmp_path):
    store = LocalStore(tmp_path)
    store.put("k", DATA)
    return store


def test_every_call_is_recorded_in_order(inner):
    store = FaultyStore(inner)
    store.get("k")
    list(store.get_ranges("k", [ByteRange(0, 1), ByteRange(5)]))
    list(store.get_ranges("k", []))
    store.put("a/new", b"x")
    store.put("a/created", b"x", overwrite=False)
    store.stat("k")
    store.copy("k", "copy")
    store.delete(["copy", "absent"])
    list(store.list("a/"))
    list(store.list_prefixes())
    list(store.list_uploads())
    assert store.calls == [
        Call("get", "k"),
        Call("get_ranges", "k"),
        Call("put", "a/new"),
        Call("create", "a/created"),
        Call("stat", "k"),
        Call("copy", "k"),
        Call("delete", "copy"),
        Call("delete", "absent"),
        Call("list", "a/"),
        Call("list_prefixes", ""),
        Call("list_uploads", ""),
    ]
    assert (store.count("delete"), store.count("delete", "copy"), store.count("abort_upload")) == (2, 1, 0)


def test_the_nth_call_fails_before_the_act(inner):
    error = StoreUnavailable("no answer")
    store = FaultyStore(inner, [Fail("put", error, nth=2)])
    store.put("a", b"1")
    with pytest.raises(StoreUnavailable) as raised:
        store.put("b", b"2")
    assert raised.value is error
    store.put("c", b"3")
    assert [info.key for info in inner.list()] == ["a", "c", "k"]


def test_a_lost_answer_is_an_error_after_the_act(inner):
    store = FaultyStore(inner, [Fail("create", StoreUnavailable("no answer"), when="after")])
    with pytest.raises(StoreUnavailable):
        store.put("new", b"x", overwrite=False)
    assert bytes(inner.get("new")) == b"x"
    with pytest.raises(KeyExists):
        store.put("new", b"x", overwrite=False)


def test_a_fault_may_wait_for_one_key_and_strike_every_time(inner):
    store = FaultyStore(inner, [Fail("get", StoreUnavailable("no"), key="k", nth=None)])
    store.put("other", b"x")
    for _ in range(3):
        assert bytes(store.get("other")) == b"x"
        with pytest.raises(StoreUnavailable):
            store.get("k")


@pytest.mark.parametrize(
    "operation", ["stat", "list", "list_prefixes", "delete", "copy", "get_ranges", "list_uploads"]
)
def test_any_operation_can_fail(inner, operation):
    store = FaultyStore(inner, [Fail(operation, StoreUnavailable("no"))])
    calls = {
        "stat": lambda: store.stat("k"),
        "list": lambda: list(store.list()),
        "list_prefixes": lambda: list(store.list_prefixes()),
        "delete": lambda: store.delete(["k"]),
        "copy": lambda: store.copy("k", "copy"),
        "get_ranges": lambda: list(store.get_ranges("k", [ByteRange(0)])),
        "list_uploads": lambda: list(store.list_uploads()),
    }
    with pytest.raises(StoreUnavailable):
        calls[operation]()
    assert [info.key for info in inner.list()] == ["k"]


@pytest.mark.parametrize("after_bytes", [0, 1, 30, 59, 60])
@pytest.mark.parametrize("data", [DATA[:60], [DATA[:20], b"", DATA[20:60]]])
def test_a_put_is_cut_after_so_many_bytes_and_publishes_nothing(inner, after_bytes, data):
    pulled = []

    def parts():
        for part in [data] if isinstance(data, bytes) else data:
            pulled.append(part)
            yield part

    store = FaultyStore(inner, [CutPut(after_bytes, StoreFull("no space"), key="k")])
    with pytest.raises(StoreFull):
        store.put("k", parts())
    assert sum(map(len, pulled)) >= after_bytes
    assert bytes(inner.get("k")) == DATA
    assert list(inner.list_uploads()) == []
    store.put("k", data)
    assert bytes(inner.get("k")) == DATA[:60]


def test_a_create_can_be_cut_too(inner):
    store = FaultyStore(inner, [CutPut(3, StoreFull("no space"))])
    with pytest.raises(StoreFull):
        store.put("new", b"abcdef", overwrite=False)
    assert [info.key for info in inner.list()] == ["k"]


@pytest.mark.parametrize("wanted", [ByteRange(0), ByteRange(-60), ByteRange(50, 1), ByteRange(45, 10)])
def test_a_flipped_bit_is_read_by_every_range_that_holds_it(inner, wanted):
    store = FaultyStore(inner, [FlipBit(50, bit=7, key="k")])
    start, stop = wanted.within(100)
    flipped = DATA[:50] + bytes([50 ^ 0x80]) + DATA[51:]
    assert bytes(store.get("k")) == flipped
    assert [bytes(part) for part in store.get_ranges("k", [wanted, ByteRange(0, 50)])] == [
        flipped[start:stop],
        DATA[:50],
    ]
    assert bytes(inner.get("k")) == DATA


def test_a_truncated_object_ends_early_while_stat_tells_its_length(inner):
    store = FaultyStore(inner, [Truncate(70)])
    ranges = [ByteRange(0, 10), ByteRange(60, 20), ByteRange(-50), ByteRange(80, 5)]
    expected = [DATA[:10], DATA[60:70], DATA[50:70], b""]
    assert bytes(store.get("k")) == DATA[:70]
    assert [bytes(part) for part in store.get_ranges("k", ranges)] == expected
    assert store.stat("k").size_bytes == 100


def test_faults_compose(inner):
    store = FaultyStore(inner, [FlipBit(0), FlipBit(1), Truncate(3), Fail("get", StoreUnavailable("no"), nth=2)])
    assert bytes(store.get("k")) == bytes([1, 0, 2])
    with pytest.raises(StoreUnavailable):
        store.get("k")


def test_a_killed_process_does_nothing_more(inner):
    store = FaultyStore(inner, [Fail("put", Killed(), when="after", nth=2)])
    store.put("a", b"1")
    with pytest.raises(Killed):
        store.put("b", b"2")
    for act in (
        lambda: store.put("c", b"3"),
        lambda: store.delete(["a"]),
        lambda: store.get("a"),
        lambda: list(store.list()),
    ):
        with pytest.raises(Killed):
            act()
    assert [info.key for info in inner.list()] == ["a", "b", "k"]
    assert store.calls == [Call("put", "a"), Call("put", "b")]


def test_a_kill_in_the_middle_of_a_put_ends_the_store_too(inner):
    store = FaultyStore(inner, [CutPut(10, Killed())])
    with pytest.raises(Killed):
        store.put("k", DATA)
    with pytest.raises(Killed):
        store.get("k")
    assert bytes(inner.get("k")) == DATA


def test_a_copy_from_another_store_into_a_faulty_one_meets_its_faults(inner, tmp_path):
    store = FaultyStore(LocalStore(tmp_path / "target"), [CutPut(10, StoreFull("no space"))])
    with pytest.raises(StoreFull):
        inner.copy("k", "copied", target=store)
    assert list(store.list()) == []


def test_a_fault_of_ones_own_needs_one_method(inner):
    class Shout(Fault):
        def received(self, start, data):
            return memoryview(bytes(data).upper())

    inner.put("k", b"quiet")
    assert bytes(FaultyStore(inner, [Shout()]).get("k")) == b"QUIET"


def test_it_has_no_url_of_its_own(inner):
    assert FaultyStore(inner).url == inner.url
    with pytest.raises(UnsupportedOperation):
        FaultyStore.from_url("file:///x")
