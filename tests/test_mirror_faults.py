"""Whatever goes wrong during a mirror: nothing is lost, nothing is half there, and the next mirror completes it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from ckptstore import keys, mirror
from ckptstore.errors import AccessDenied, MirrorIncomplete, StoreFull, StoreUnavailable
from ckptstore.store import Store
from ckptstore.testing.faults import CutPut, Fail, Killed
from ckptstore.testing.faulty import FaultyStore
from ckptstore_backends.local import LocalStore
from ckptstore_backends.memory import MemoryStore
from tests.mirrored import ONE, THREE, TWO, WatchedStore, archive, check_safe_to_read, contents, lay_out

_MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CKPTSTORE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def source() -> Store:
    """A store with three experiments, each of which came out of the next."""
    store = MemoryStore(uuid.uuid4().hex)
    lay_out(store, THREE)
    lay_out(store, TWO, parent=THREE)
    lay_out(store, ONE, parent=TWO)
    return store


@pytest.fixture
def target() -> Store:
    """An empty store."""
    return MemoryStore(uuid.uuid4().hex)


def _failed(source: Store, target: Store, **options) -> MirrorIncomplete:
    with pytest.raises(MirrorIncomplete) as raised:
        mirror(source, target, **options)
    assert not raised.value.report.ok
    return raised.value


# -- order --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 8])
def test_a_reader_never_finds_what_points_to_something_that_is_not_there(source, workers):
    target = WatchedStore(uuid.uuid4().hex)
    assert mirror(source, target, workers=workers).ok
    assert contents(target) == contents(source)


def test_checkpoints_arrive_in_the_order_of_their_steps(source, target):
    lay_out(source, ONE, [1_000_000, 5, 999_999, 40], parent=TWO)
    there = FaultyStore(target)
    mirror(source, there, workers=1)
    arrived = [keys.parse_key(call.key).step for call in there.calls if call.operation == "create"]  # type: ignore[union-attr]
    steps = [step for step in arrived if step is not None]
    assert steps[-7:] == [0, 1, 2, 5, 40, 999_999, 1_000_000]


# -- failures -----------------------------------------------------------------------------------------


def test_one_failure_lets_the_others_go_on_and_is_listed(source, target):
    failing = keys.checkpoint_key(ONE, 1)
    there = FaultyStore(target, [Fail("create", AccessDenied("not you"), key=failing, nth=None)])
    raised = _failed(source, there)
    assert [(item.key, item.error) for item in raised.report.failures] == [(failing, "not you")]
    assert f"{failing} (not you); mirror again" in str(raised)
    assert contents(target) == {key: data for key, data in contents(source).items() if key != failing}
    assert [item.key for item in mirror(source, target).transferred] == [failing]


def test_a_companion_that_fails_holds_back_the_record_the_checkpoints_and_the_children(source, target):
    failing = keys.config_key(TWO)
    raised = _failed(source, FaultyStore(target, [Fail("create", AccessDenied("not you"), key=failing, nth=None)]))
    check_safe_to_read(target)
    there = contents(target)
    assert sum(THREE in key for key in there) == 9
    assert keys.provenance_key(TWO) not in there
    assert keys.provenance_key(ONE) not in there
    held = {item.key: item.error for item in raised.report.failures if item.key != failing}
    assert held[keys.checkpoint_key(ONE, 0)] == f"not copied, because {failing} failed"
    assert set(there) | set(held) | {failing} == set(contents(source))
    mirror(source, target)
    assert contents(target) == contents(source)


def test_nothing_is_deleted_where_something_failed(source, target):
    stray = keys.checkpoint_key(ONE, 9)
    target.put(stray, archive("stray"))
    there = FaultyStore(target, [Fail("create", StoreFull("full"), key=keys.config_key(ONE), nth=None)])
    raised = _failed(source, there, delete=True)
    assert stray in contents(target)
    assert f"not deleted, because {keys.config_key(ONE)} failed" in {item.error for item in raised.report.failures}


@pytest.mark.parametrize("error", [StoreFull("full"), StoreUnavailable("away"), AccessDenied("taken back")])
def test_a_store_that_takes_nothing_more_is_given_up_soon(target, error):
    source = MemoryStore(uuid.uuid4().hex)
    lay_out(source, ONE, range(100))
    faults = [Fail("create", error, nth=None, key=keys.checkpoint_key(ONE, step)) for step in range(20, 100)]
    there = FaultyStore(target, faults)
    raised = _failed(source, there, workers=2)
    assert len(raised.report.failures) == 80
    assert there.count("create") < 40
    assert len(contents(target)) == 26
    mirror(source, target)
    assert contents(target) == contents(source)


def test_a_full_disk_in_the_middle_of_a_large_object_leaves_what_was_there(tmp_path, source):
    key = keys.checkpoint_key(ONE, 9)
    disk = LocalStore(tmp_path / "disk")
    mirror(source, disk)
    before = contents(disk)
    source.put(key, archive("large", 40 * _MIB))
    _failed(source, FaultyStore(disk, [CutPut(30 * _MIB, StoreFull("full"), key=key)]))
    assert contents(disk) == before
    assert list(disk.list_uploads()) == []
    assert mirror(source, disk).transferred_bytes == 40 * _MIB + 97


def test_an_error_that_is_none_of_ours_comes_out_as_it_is(source, target):
    there = FaultyStore(target, [Fail("create", ZeroDivisionError("a bug"))])
    with pytest.raises(ZeroDivisionError):
        mirror(source, there)


# -- a world that changes -----------------------------------------------------------------------------


class _Changing(FaultyStore):
    """A store in which something else happens just before an object is read or written."""

    def __init__(self, store: Store, operation: str, key: str, change) -> None:
        super().__init__(store)
        self._trigger, self._change = (operation, key), change

    def _call(self, operation, key):
        if (operation, key) == self._trigger:
            self._trigger = ("", "")
            self._change(self._store)
        return super()._call(operation, key)


@pytest.mark.parametrize("size_bytes", [300, 20 * _MIB])
def test_an_object_that_is_replaced_while_it_is_read_arrives_as_it_is_then(source, target, size_bytes):
    key = keys.checkpoint_key(ONE, 1)
    source.put(key, archive("before", size_bytes))
    ours = _Changing(source, "get_ranges", key, lambda store: store.put(key, archive("after", size_bytes + 5)))
    assert mirror(ours, target).ok
    assert bytes(target.get(key)) == archive("after", size_bytes + 5)
    assert mirror(source, target).same_objects == 27


def test_an_object_that_is_deleted_from_the_source_meanwhile_is_no_failure(source, target):
    key = keys.checkpoint_key(ONE, 1)
    report = mirror(_Changing(source, "get_ranges", key, lambda store: store.delete([key])), target)
    assert (report.ok, report.gone) == (True, (key,))
    assert contents(target) == contents(source)


@pytest.mark.parametrize("size_bytes", [300, 20 * _MIB])
def test_what_somebody_else_put_there_meanwhile_is_not_overwritten(source, target, size_bytes):
    key = keys.checkpoint_key(ONE, 1)
    source.put(key, archive("ours", size_bytes))
    ours = _Changing(source, "get_ranges", key, lambda _: target.put(key, archive("theirs")))
    before = "create" if size_bytes == 300 else "stat"
    there = _Changing(target, before, key, lambda store: store.put(key, archive("theirs")))
    raised = _failed(ours if size_bytes == 300 else source, there)
    assert [item.key for item in raised.report.failures] == [key]
    assert "meanwhile" in raised.report.failures[0].error
    assert bytes(target.get(key)) == archive("theirs")


def test_what_somebody_else_put_there_while_a_large_object_was_on_its_way_is_not_overwritten(source, target):
    key = keys.checkpoint_key(ONE, 1)
    source.put(key, archive("ours", 40 * _MIB))
    there = FaultyStore(target)
    ours = _Changing(source, "get_ranges", key, lambda _: target.put(key, archive("theirs")))
    raised = _failed(ours, there)
    assert there.count("put", key) == 1
    assert "was written by somebody else meanwhile" in raised.report.failures[0].error
    assert bytes(target.get(key)) == archive("theirs")


class _Plain(_Changing):
    """A store without atomic creates."""

    @property
    def capabilities(self):
        return dataclasses.replace(super().capabilities, atomic_create=False)


def test_a_store_that_cannot_create_atomically_is_looked_at_before_each_put(source, target):
    key = keys.checkpoint_key(ONE, 1)
    there = _Plain(target, "stat", key, lambda store: store.put(key, b"theirs"))
    raised = _failed(source, there)
    assert [item.key for item in raised.report.failures] == [key]
    assert (there.count("create"), there.count("put")) == (0, 26)
    assert contents(target) == {**contents(source), key: b"theirs"}


def test_the_same_object_that_somebody_else_put_there_meanwhile_is_fine(source, target):
    key = keys.checkpoint_key(ONE, 1)
    there = _Changing(target, "create", key, lambda store: store.put(key, bytes(source.get(key))))
    report = mirror(source, there)
    assert (report.ok, len(report.transferred), report.same_objects) == (True, 26, 1)


def test_a_target_that_changes_after_a_conflict_was_decided_is_not_overwritten(source, target):
    key = keys.config_key(ONE)
    mirror(source, target)
    target.put(key, b"theirs\n")
    ours = _Changing(source, "get_ranges", keys.config_key(ONE), lambda _: None)
    there = _Changing(target, "stat", key, lambda store: store.put(key, b"theirs, edited\n"))
    raised = _failed(ours, there, on_conflict="source")
    assert "was written by somebody else meanwhile" in raised.report.failures[0].error
    assert bytes(target.get(key)) == b"theirs, edited\n"


def test_what_came_back_to_the_source_is_not_deleted(source, target):
    mirror(source, target)
    key = keys.checkpoint_key(ONE, 1)
    data = bytes(source.get(key))
    source.delete([key])
    back = _Changing(source, "stat", key, lambda store: store.put(key, data))
    assert mirror(back, target, delete=True).removed == ()
    assert contents(target) == contents(source)


def test_an_experiment_that_is_being_created_is_looked_at_again(target):
    source = MemoryStore(uuid.uuid4().hex)
    source.put(keys.checkpoint_key(ONE, 0), archive(f"{ONE} 0"))  # what a listing shows that began too early
    prefix = keys.experiment_prefix(ONE)
    report = mirror(_Changing(source, "list", prefix, lambda store: lay_out(store)), WatchedStore(uuid.uuid4().hex))
    assert len(report.transferred) == 9


# -- damage -------------------------------------------------------------------------------------------


class _Damaging(FaultyStore):
    """A disk that keeps other bytes than it was given, so often."""

    def __init__(self, store: Store, key: str, times: int) -> None:
        super().__init__(store)
        self._key, self.times = key, times

    def _put(self, key, body):
        if key == self._key and self.times:
            self.times -= 1
            body = bytearray(b"".join(body)) if not isinstance(body, memoryview) else bytearray(body)
            body[len(body) // 2] ^= 1
            body = memoryview(body)
        return super()._put(key, body)

    _create = _put


@pytest.mark.parametrize("size_bytes", [300, 20 * _MIB])
def test_what_arrives_damaged_is_sent_again_and_never_stays(source, target, size_bytes):
    key = keys.checkpoint_key(ONE, 1)
    source.put(key, archive(f"{ONE} 1", size_bytes))
    assert mirror(source, _Damaging(target, key, times=1)).ok
    assert contents(target) == contents(source)
    target.delete([key])
    raised = _failed(source, _Damaging(target, key, times=2))
    assert "other than it was" in raised.report.failures[0].error
    assert key not in contents(target)


def test_damage_on_the_way_to_a_bucket_is_found_by_its_checksum(source, s3_store):
    key = keys.checkpoint_key(ONE, 1)
    source.put(key, archive(f"{ONE} 1", 17 * _MIB))
    damaging = _Damaging(s3_store, key, times=1)
    assert {item.proof for item in mirror(source, damaging).transferred} == {"checksum"}
    assert damaging.times == 0
    assert contents(s3_store) == contents(source)


# -- killed -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("operation", "calls"), [("create", 25), ("put", 1), ("stat", 1)])
def test_a_mirror_that_is_killed_at_any_call_is_completed_by_the_next(source, operation, calls):
    lay_out(source, ONE, [0], parent=TWO)
    if operation != "create":
        source.put(keys.checkpoint_key(ONE, 2), archive(f"{ONE} 2", 17 * _MIB))
    for nth in range(1, calls + 1):
        target = MemoryStore(uuid.uuid4().hex)
        killed = Fail(operation, Killed(), nth=nth, when="before" if nth % 2 else "after")
        with pytest.raises(Killed):
            mirror(source, FaultyStore(target, [killed]), workers=1 + nth % 3)
        check_safe_to_read(target)
        assert mirror(source, target).ok
        assert contents(target) == contents(source)


_MEMORY = """
import resource, sys
from ckptstore import mirror, open_store
from ckptstore.testing.faulty import FaultyStore

def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) // 1024

mirror(sys.argv[1] + "-small", sys.argv[2] + "-small")
before = peak()
report = mirror(FaultyStore(open_store(sys.argv[1])), FaultyStore(open_store(sys.argv[2])))
[moved] = report.transferred
print(moved.size_bytes // 1024**2, moved.proof.replace(" ", "-"), peak() - before)
"""


def test_a_mirror_holds_a_fraction_of_a_large_object(tmp_path):
    key = keys.checkpoint_key(ONE, 1)
    for name in ("source-small", "source"):
        path = tmp_path / name / key
        path.parent.mkdir(parents=True)
        path.touch()
    with path.open("wb") as file:
        file.truncate(600 * _MIB)
    command = [sys.executable, "-c", _MEMORY, str(tmp_path / "source"), str(tmp_path / "target")]
    said = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent
    ).stdout
    mib, proof, held_mib = said.split()
    assert (int(mib), proof) == (600, "read-back")
    assert int(held_mib) < 120
