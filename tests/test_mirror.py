"""A mirror brings over whole experiments: everything, verified, and only what is not there yet."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ckptstore import CheckpointManagerV2, compress, keys, mirror, open_store
from ckptstore.archive.container import ENDING_BYTES, MARKER
from ckptstore.errors import InvalidName, MirrorIncomplete, SamePlace, StoreNotFound, UnknownExperiment
from ckptstore.experiment import Experiment
from ckptstore.packing import container as packed
from ckptstore.store import Store
from ckptstore.testing.faulty import FaultyStore
from ckptstore_backends.local import LocalStore
from ckptstore_backends.memory import MemoryStore
from tests.experiments import new_experiment
from tests.mirrored import ONE, THREE, TWO, Clocked, WatchedStore, archive, contents, lay_out
from tests.models import Net

_MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the journals."""
    monkeypatch.setenv("CKPTSTORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def source() -> Store:
    """A store with two experiments, the second of which came out of the first."""
    store = MemoryStore(uuid.uuid4().hex)
    lay_out(store, TWO)
    lay_out(store, ONE, parent=TWO)
    return store


@pytest.fixture
def target() -> Store:
    """An empty store."""
    return MemoryStore(uuid.uuid4().hex)


def _twin(request: pytest.FixtureRequest, store: Store) -> Store:
    """Return another store of the same service as one of the fixtures gave."""
    if isinstance(store, LocalStore):
        return LocalStore(Path(str(store.path("k"))).parent.with_name("twin"))
    if isinstance(store, MemoryStore):
        return MemoryStore(uuid.uuid4().hex)
    kind = {"s": "s3", "g": "gcs"}[store.url[0]]
    options = request.getfixturevalue("seaweedfs_options" if "seaweedfs" in request.node.name else f"{kind}_options")
    return open_store(f"{store.url}-twin", **options)


# -- everything arrives -------------------------------------------------------------------------------


def test_a_store_of_each_kind_takes_and_gives_everything(every_store, source, target):
    source.put(keys.checkpoint_key(ONE, 9), archive("large", 17 * _MIB))
    there = mirror(source, every_store)
    assert contents(every_store) == contents(source)
    assert (there.ok, len(there.transferred), there.same_objects) == (True, 19, 0)
    back = mirror(every_store, target)
    assert contents(target) == contents(source)
    assert (back.ok, back.transferred_bytes) == (True, there.transferred_bytes)
    assert {item.proof for item in back.transferred} == {"read back"}
    expected = {"local": "read back", "memory": "read back"}
    kind = type(every_store).__name__.removesuffix("Store").lower()
    assert {item.proof for item in there.transferred} == {expected.get(kind, "checksum")}


def test_one_service_copies_within_itself(any_store, request):
    lay_out(any_store)
    large = keys.checkpoint_key(ONE, 9)
    any_store.put(large, archive("large", 17 * _MIB))
    watched = _Reads(any_store)
    with _twin(request, any_store) as twin:
        assert any_store.can_copy_to(twin) is not isinstance(any_store, MemoryStore)
        [proof] = {item.proof for item in mirror(watched, twin).transferred if item.key == large}
        assert contents(twin) == contents(any_store)
    assert proof == {"file": "read back", "memory": "read back", "s3": "ending"}[any_store.url.partition(":")[0]]
    if any_store.url.startswith("s3:"):
        assert watched.received[large] < 1000


class _Reads(FaultyStore):
    """Counts the bytes that are read of each object, and copies as the store inside does."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.received: dict[str, int] = {}

    def can_copy_to(self, target):
        return self._store.can_copy_to(target)

    def _get_ranges(self, key, ranges, version) -> Iterator[memoryview]:
        for part in super()._get_ranges(key, ranges, version):
            self.received[key] = self.received.get(key, 0) + part.nbytes
            yield part


def test_two_servers_may_have_buckets_of_one_name(s3_store, s3_bucket, seaweedfs, seaweedfs_options):
    seaweedfs.hands.create_bucket(Bucket=s3_bucket)
    lay_out(s3_store)
    with open_store(s3_store.url, **seaweedfs_options) as other:
        assert other.url == s3_store.url
        assert mirror(s3_store, other).ok
        assert contents(other) == contents(s3_store)
    seaweedfs.drop_bucket(s3_bucket)


def test_gcs_buckets_copy_on_the_server_and_keep_checksums(gcs_store, fake_gcs_server, gcs_options):
    lay_out(gcs_store, size_bytes=2 * _MIB)
    with open_store(f"gs://{fake_gcs_server.new_bucket()}", **gcs_options) as other:
        assert {item.proof for item in mirror(gcs_store, other).transferred} == {"checksum"}
        assert contents(other) == contents(gcs_store)


def test_stores_are_opened_from_urls_and_paths_and_closed_again(tmp_path, source):
    assert mirror(source, tmp_path / "disk").target == (tmp_path / "disk").as_uri()
    assert mirror(str(tmp_path / "disk"), f"memory://{uuid.uuid4().hex}").ok


# -- only what is not there ---------------------------------------------------------------------------


def test_a_second_mirror_reads_and_writes_nothing(source, target):
    mirror(source, target)
    ours, theirs = FaultyStore(source), FaultyStore(target)
    again = mirror(ours, theirs)
    assert (again.transferred, again.same_objects, again.same_bytes) == (
        (),
        18,
        sum(map(len, contents(source).values())),
    )
    assert {call.operation for call in (*ours.calls, *theirs.calls)} == {"list"}


def test_what_was_mirrored_there_need_not_be_compared_on_the_way_back(source, target):
    mirror(source, target)
    back = FaultyStore(target)
    mirror(back, source)
    assert {call.operation for call in back.calls} == {"list"}


def test_new_objects_alone_are_copied(source, target):
    mirror(source, target)
    source.put(keys.checkpoint_key(ONE, 7), archive("new"))
    assert [item.key for item in mirror(source, target).transferred] == [keys.checkpoint_key(ONE, 7)]


@pytest.mark.parametrize("harm", ["missing", "damaged", "a folder", "of another kind"])
def test_without_a_journal_the_ends_of_checkpoints_are_compared(source, target, cache, harm):
    source.put(keys.checkpoint_key(ONE, 9), archive("large", 20_000))
    mirror(source, target)
    [journal] = (cache / "mirror").glob("*.sqlite")
    for path in (cache / "mirror").iterdir():
        path.unlink()
    if harm == "damaged":
        journal.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 40)
    elif harm == "a folder":
        journal.mkdir()
    elif harm == "of another kind":
        journal.write_text("hello\n" * 100)
    ours = _Reads(source)
    report = mirror(ours, target)
    assert (report.transferred, report.ok) == ((), True)
    assert ours.received[keys.checkpoint_key(ONE, 9)] == 97
    assert bool(report.notes) == (harm == "a folder")
    assert mirror(source, target).same_objects == 19


def test_a_journal_that_cannot_be_written_is_no_error(source, target, cache):
    cache.write_text("in the way")
    assert "no journal is kept" in mirror(source, target).notes[0]
    assert mirror(source, target).same_objects == 18


def test_a_journal_names_no_secret_and_is_forgotten_with_the_version(source, target, cache):
    mirror(source, target)
    data = bytearray(source.get(keys.checkpoint_key(ONE, 2)))
    data[7] ^= 1
    target.put(keys.checkpoint_key(ONE, 2), data)
    assert mirror(source, target).same_objects == 18  # by its end; only --checksum looks into the middle
    with pytest.raises(MirrorIncomplete) as raised:
        mirror(source, target, checksum=True)
    assert [item.key for item in raised.value.report.conflicts] == [keys.checkpoint_key(ONE, 2)]


def test_the_ends_of_checkpoints_are_those_that_are_written(source, target, cache):
    assert archive("x")[-ENDING_BYTES:].endswith(MARKER + archive("x")[-64:])
    assert packed.FOOTER_BYTES < ENDING_BYTES
    compressed = keys.compressed_checkpoint_key(ONE, 0)
    source.put(compressed, bytes(20_000) + packed.MARKER)
    mirror(source, target)
    (cache / "mirror").rename(cache / "elsewhere")
    ours = _Reads(source)
    assert mirror(ours, target).transferred == ()
    assert ours.received[compressed] == ENDING_BYTES == ours.received[keys.checkpoint_key(ONE, 0)]


def test_a_backup_is_recognised_by_the_checksum_beside_it(source, target, cache):
    mirror(source, target)
    (cache / "mirror").rename(cache / "elsewhere")
    ours = _Reads(source)
    assert mirror(ours, target).transferred == ()
    assert keys.backup_key(ONE) not in ours.received


def test_checkpoints_of_other_tools_are_compared_whole(source, target):
    key = keys.checkpoint_key(ONE, 2)
    source.put(key, b"PK\3\4" + bytes(3 * _MIB))
    target.put(key, b"PK\3\4" + bytes(3 * _MIB))
    assert mirror(source, target).same_objects == 1
    target.put(key, b"PK\3\5" + bytes(3 * _MIB))
    with pytest.raises(MirrorIncomplete):
        mirror(source, target)


# -- what is chosen -----------------------------------------------------------------------------------


def test_a_parent_without_a_record_is_told(source, target):
    source.delete([keys.provenance_key(TWO)])
    lost = f"{ONE} came out of {TWO}, whose record the source does not have"
    assert mirror(source, target, experiments=[ONE], dry_run=True).notes == (lost,)
    assert mirror(source, target).notes == (lost,)


def test_one_experiment_alone_brings_the_records_of_its_ancestors(source, target):
    lay_out(source, THREE)
    report = mirror(source, target, experiments=[ONE])
    assert (report.experiments, report.ancestors) == ((ONE,), (TWO,))
    of_parent = {key for key in contents(target) if TWO in key}
    assert of_parent == {
        keys.config_key(TWO), keys.provenance_key(TWO), keys.architecture_key(TWO), keys.architecture_text_key(TWO),
    }  # fmt: skip
    assert not any(THREE in key for key in contents(target))
    assert mirror(source, target, experiments=[ONE]).ancestors == ()


def test_an_ancestor_that_the_source_lacks_is_no_error(source, target):
    lay_out(source, THREE, parent="f" * 16)
    assert mirror(source, target, experiments=[THREE]).ok


def test_experiments_that_came_out_of_each_other_are_mirrored_all_the_same(target):
    source = MemoryStore(uuid.uuid4().hex)
    lay_out(source, ONE, parent=TWO)
    lay_out(source, TWO, parent=ONE)
    lay_out(source, THREE, parent=THREE)
    mirror(source, target)
    assert contents(target) == contents(source)


def test_only_the_latest_checkpoints_are_taken(source, target):
    source.put(keys.compressed_checkpoint_key(ONE, 1_000_000), b"compressed")
    source.put(keys.checkpoint_key(ONE, 999_999), archive("x"))
    mirror(source, target, experiments=[ONE], latest=2)
    model = contents(target, keys.model_prefix(ONE))
    assert [key for key in model if "_step_" in key] == [
        keys.compressed_checkpoint_key(ONE, 1_000_000), keys.checkpoint_key(ONE, 999_999),
    ]  # fmt: skip


def test_data_and_logs_come_along_when_asked(source, target):
    source.put("data/a/b.npy", b"array")
    source.put("logs/run.txt", b"line\n")
    source.put("elsewhere/x", b"not ours")
    mirror(source, target)
    assert not any(key.startswith(("data/", "logs/")) for key in contents(target))
    mirror(source, target, with_data=True, with_logs=True)
    assert contents(target) == {key: data for key, data in contents(source).items() if key != "elsewhere/x"}


def test_a_log_that_has_grown_is_no_conflict_and_one_that_was_rewritten_is(source, target):
    source.put("logs/run.txt", b"one\n")
    mirror(source, target, with_logs=True)
    source.put("logs/run.txt", b"one\ntwo\n")
    assert [item.replaced for item in mirror(source, target, with_logs=True).transferred] == [True]
    source.put("logs/run.txt", b"another\n")
    with pytest.raises(MirrorIncomplete):
        mirror(source, target, with_logs=True)
    assert bytes(target.get("logs/run.txt")) == b"one\ntwo\n"


def test_the_latest_checkpoints_are_those_that_resuming_goes_on_from(target):
    source = MemoryStore(uuid.uuid4().hex)
    with CheckpointManagerV2(source) as manager:
        exp_hash, _ = manager.update_experiment_hash(config={"lr": 1})
        for step in (1, 2, 3, 1):  # the last one by a run that had gone back
            manager.save_model_checkpoint(Net(), step=step)
    mirror(source, target, latest=1)
    assert [record.step for record in Experiment(target, exp_hash).checkpoints()] == [1]
    mirror(source, target, latest=2)
    assert [record.step for record in Experiment(target, exp_hash).checkpoints()] == [1, 3]


def test_what_is_not_ours_is_left_alone_and_reported(source, target):
    source.put(f"checkpoints/{ONE}/model/notes.txt", b"mine")
    source.put("checkpoints/README.md", b"mine")
    target.put(f"checkpoints/{ONE}/hp/todo", b"yours")
    report = mirror(source, target, delete=True)
    assert report.foreign == (
        f"checkpoints/{ONE}/hp/todo",
        f"checkpoints/{ONE}/model/notes.txt",
        "checkpoints/README.md",
    )
    assert bytes(target.get(f"checkpoints/{ONE}/hp/todo")) == b"yours"
    assert report.removed == ()
    assert len(report.transferred) == 18


# -- conflicts ----------------------------------------------------------------------------------------


@pytest.fixture
def conflict(source, target) -> str:
    """The key of a config that differs, in a target that lacks everything else of another experiment."""
    mirror(source, target, experiments=[TWO])
    target.put(keys.config_key(TWO), b"lr: 2\n")
    return keys.config_key(TWO)


def test_a_conflict_stops_before_anything_is_changed(source, target, conflict):
    before = contents(target)
    with pytest.raises(MirrorIncomplete, match="other content under the same key, and nothing was changed") as raised:
        mirror(source, target, delete=True)
    assert contents(target) == before
    assert [item.key for item in raised.value.report.conflicts] == [conflict]
    assert raised.value.report.transferred == ()
    assert mirror(source, target, dry_run=True).ok is False


def test_the_source_or_the_target_may_win(source, target, conflict):
    kept = mirror(source, target, on_conflict="target")
    assert ([item.key for item in kept.kept], bytes(target.get(conflict))) == ([conflict], b"lr: 2\n")
    won = mirror(source, target, on_conflict="source")
    assert [(item.key, item.replaced) for item in won.transferred] == [(conflict, True)]
    assert contents(target) == contents(source)


def test_the_newer_one_may_win_where_clocks_can_tell(source, target, conflict):
    now = datetime.now(UTC)
    mirror(Clocked(source, now - timedelta(hours=1)), target, on_conflict="newer")
    assert bytes(target.get(conflict)) == b"lr: 2\n"
    with pytest.raises(MirrorIncomplete) as raised:
        mirror(Clocked(source, now + timedelta(seconds=30)), target, on_conflict="newer")
    assert raised.value.report.conflicts[0].reason == "both were written within 60 s, so neither is newer"
    mirror(Clocked(source, now + timedelta(hours=1)), target, on_conflict="newer")
    assert contents(target) == contents(source)


def test_a_replaced_backup_never_stands_beside_another_files_checksum(source):
    target = WatchedStore(uuid.uuid4().hex)
    mirror(source, target)
    target.replacing = True
    lay_out(source, ONE, parent=TWO, backup=b"another backup")
    mirror(source, target, on_conflict="source")
    assert contents(target) == contents(source)
    changed = b"a third one"
    source.put(keys.backup_key(ONE), changed)
    source.delete([keys.backup_digest_key(keys.backup_key(ONE))])
    mirror(source, target, on_conflict="source")
    assert bytes(target.get(keys.backup_key(ONE))) == changed
    assert keys.backup_digest_key(keys.backup_key(ONE)) not in contents(target)


# -- deleting -----------------------------------------------------------------------------------------


def test_delete_removes_what_the_source_lacks_of_mirrored_experiments_only(source, target):
    lay_out(target, ONE, range(5), parent=TWO)
    lay_out(target, THREE)
    for name in ("data/x", "logs/x"):
        target.put(name, b"mine")
    report = mirror(source, target, delete=True, with_data=True, with_logs=True)
    assert [item.key for item in report.removed] == [keys.checkpoint_key(ONE, 3), keys.checkpoint_key(ONE, 4)]
    assert {key: data for key, data in contents(target).items() if ONE in key or TWO in key} == contents(source)
    assert sum(THREE in key for key in contents(target)) == 9
    assert {"data/x", "logs/x"} <= set(contents(target))


def test_delete_leaves_older_checkpoints_that_the_source_has(source, target):
    mirror(source, target)
    target.put(keys.checkpoint_key(ONE, 7), archive("stray"))
    report = mirror(source, target, latest=1, delete=True)
    assert [item.key for item in report.removed] == [keys.checkpoint_key(ONE, 7)]
    assert contents(target) == contents(source)


def test_the_other_form_of_a_checkpoint_goes_only_when_its_own_has_arrived(target):
    source = MemoryStore(uuid.uuid4().hex)
    exp_hash = new_experiment(source, steps=(0, 1, 2, 3))
    mirror(source, target)
    compress(source, steps=(0, 2))
    report = mirror(source, target, latest=2, delete=True)
    assert [item.key for item in report.transferred] == [keys.compressed_checkpoint_key(exp_hash, 2)]
    assert [item.key for item in report.removed] == [keys.checkpoint_key(exp_hash, 2)]
    assert keys.checkpoint_key(exp_hash, 0) in contents(target)
    mirror(source, target, delete=True)
    assert contents(target) == contents(source)


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(source, target):
    lay_out(target, ONE, range(1, 5), parent=TWO)
    before = contents(target)
    said = mirror(source, target, delete=True, dry_run=True)
    assert contents(target) == before
    done = mirror(source, target, delete=True)
    facts = [
        [*((one.key, one.size_bytes) for one in report.transferred), *(one.key for one in report.removed)]
        for report in (said, done)
    ]
    assert facts[0] == facts[1]
    assert (said.dry_run, done.dry_run) == (True, False)


# -- bad input ----------------------------------------------------------------------------------------


def test_a_place_is_not_mirrored_onto_itself_however_it_is_spelled(tmp_path, monkeypatch):
    (tmp_path / "store" / "checkpoints").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "store")
    (tmp_path / "shell").mkdir()
    (tmp_path / "shell" / "checkpoints").symlink_to(tmp_path / "store" / "checkpoints")
    monkeypatch.chdir(tmp_path)
    store = tmp_path / "store"
    for spelled in (store, "store", "./store/", "store/../store", store.as_uri(), "link", "link/x/..", "shell"):
        with pytest.raises(SamePlace, match="choose another target"):
            mirror(store, spelled)
    for spelled in ("memory://a/b/", LocalStore(store)):
        with pytest.raises(SamePlace):
            mirror(spelled, spelled)


def test_a_place_is_not_mirrored_into_itself_or_out_of_itself(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "store")
    inside = [(tmp_path / "store", tmp_path / "store" / "copy"), (tmp_path / "link", tmp_path / "store" / "copy"),
              ("memory://a", "memory://a/b"), ("s3://bucket/a", "s3://bucket/a/b"),
              ("gs://bucket", "gs://bucket/a")]  # fmt: skip
    for outer, inner in inside:
        for pair in ((outer, inner), (inner, outer)):
            with pytest.raises((SamePlace, StoreNotFound), match=r"lies inside|no such folder"):
                mirror(*pair)
    (tmp_path / "store-copy").mkdir()
    [note] = mirror(tmp_path / "store", tmp_path / "store-copy").notes
    assert note == f"{(tmp_path / 'store').as_uri()} holds no experiment"


def test_unknown_experiments_and_places_are_named(tmp_path, source, target, s3_options):
    with pytest.raises(UnknownExperiment, match=rf"no experiment {THREE} in memory://.*; there are: {ONE}, {TWO}"):
        mirror(source, target, experiments=[ONE, THREE])
    with pytest.raises(InvalidName):
        mirror(source, target, experiments=["123"])
    with pytest.raises(StoreNotFound, match="no such folder"):
        mirror(tmp_path / "absent", target)
    with open_store("s3://no-such-bucket-here", **s3_options) as nowhere:
        for pair in ((nowhere, target), (source, nowhere)):
            with pytest.raises(StoreNotFound):
                mirror(*pair)
    assert contents(target) == {}


@pytest.mark.parametrize("wrong", [{"latest": 0}, {"workers": 0}, {"on_conflict": "mine"}])
def test_options_that_mean_nothing_are_refused(source, target, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        mirror(source, target, **wrong)


# -- the report ---------------------------------------------------------------------------------------


def test_a_report_is_plain_data_and_a_page_of_text(source, target):
    report = mirror(source, target)
    data = json.loads(json.dumps(report.as_dict()))
    assert (data["ok"], data["transferred_bytes"], len(data["transferred"])) == (True, report.transferred_bytes, 18)
    assert all(len(line) <= 80 for line in str(report).splitlines()[2:])
    assert "copied               18 objects" in str(report)


def test_progress_is_told_of_every_byte(source, target):
    class Counted:
        expected = done = objects = 0

        def expect(self, *, size_bytes=0, objects=0):
            self.expected += size_bytes

        def advance(self, *, size_bytes=0, objects=0):
            self.done += size_bytes
            self.objects += objects

        def describe(self, what):
            pass

    progress = Counted()
    report = mirror(source, target, progress=progress)
    assert (progress.expected, progress.done, progress.objects) == (
        report.transferred_bytes,
        report.transferred_bytes,
        18,
    )
