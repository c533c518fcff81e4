"""Old experiments and garbage: what goes whole, in which order, and what is left alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import h5py
import pytest

from ckptstore import CheckpointManagerV2, collect_garbage, keys, open_store, prune_experiments, verify
from ckptstore.clock import PROBE_PREFIX
from ckptstore.compression import compress
from ckptstore.errors import AccessDenied, CorruptCheckpoint, UnknownExperiment
from ckptstore.experiment import Experiment, list_hashes
from ckptstore.keys import Kind
from ckptstore.retention.aging import deletion_order
from ckptstore.testing import Fail, FaultyStore, Killed
from tests.experiments import begin_upload, flip, folder, fresh_memory, make_old, new_experiment, put_checkpoint
from tests.models import Net

HASH = "ab" * 8
WEEK = timedelta(days=7)


def aged(store, *ages):
    """Write experiments that were last written to so many days ago, and return their hashes."""
    hashes = []
    for number, days in enumerate(ages):
        hashes.append(new_experiment(store, config=number, steps=(1, 2)))
        make_old(store, timedelta(days=days), keys.experiment_prefix(hashes[-1]))
    return hashes


def why(report, exp_hash):
    [verdict] = [verdict for verdict in report.verdicts if verdict.exp_hash == exp_hash]
    return verdict.why


def test_what_is_old_and_not_among_the_latest_goes():
    store = fresh_memory()
    new, middle, old = aged(store, 2, 10, 30)
    planned = prune_experiments(store, older_than=WEEK, dry_run=True)
    assert {verdict.exp_hash for verdict in planned.gone} == {middle, old}
    assert prune_experiments(store, keep_latest=2, older_than=WEEK).gone[0].exp_hash == old
    report = prune_experiments(store, keep_latest=1)
    assert list_hashes(store) == [new]
    assert why(report, new) == "one of the latest 1"
    assert report.freed_bytes == report.gone[0].size_bytes > 0
    assert json.loads(json.dumps(report.as_dict()))["verdicts"][1]["stays"] is False


def test_what_was_written_to_within_a_day_stays(any_store):
    exp_hash = new_experiment(any_store)
    report = prune_experiments(any_store, keep_latest=0)
    assert why(report, exp_hash) == "written to within 24 h"
    assert list_hashes(any_store) == [exp_hash]
    assert prune_experiments(any_store, older_than=timedelta(0)).gone == ()


def test_what_a_manager_of_this_process_works_on_stays():
    store = fresh_memory()
    with CheckpointManagerV2(store) as manager:
        first, _ = manager.update_experiment_hash(Net(4), {"n": 1})
        second, _ = manager.update_experiment_hash(Net(4), {"n": 2})
        make_old(store, timedelta(days=30))
        report = prune_experiments(store, keep_latest=0, parents=True)
    assert list_hashes(store) == [second]
    assert why(report, second) == "this process works on it"
    assert why(report, first) == "old"
    assert why(prune_experiments(store, keep_latest=0), second) == "old"  # the manager is closed


def test_what_is_being_written_into_stays(tmp_path):
    store = folder(tmp_path)
    [exp_hash] = aged(store, 30)
    key = keys.checkpoint_key(exp_hash, 9)
    name = f".ckptstore-{int(datetime.now(UTC).timestamp() * 1e9):016x}-{'0' * 16}-{keys.file_name(key)}"
    (tmp_path / key).with_name(name).write_bytes(b"half")
    assert why(prune_experiments(store, keep_latest=0), exp_hash) == "something is being written into it"


def test_the_parents_of_what_stays_stay_unless_said(tmp_path):
    store = fresh_memory()
    parent = None
    hashes = []
    for number in range(3):
        with CheckpointManagerV2(store, parent=parent) as manager:
            parent, _ = manager.update_experiment_hash(Net(4), {"n": number})
        hashes.append(parent)
    make_old(store, timedelta(days=30))
    report = prune_experiments(store, keep_latest=1)
    assert report.gone == ()
    assert why(report, hashes[0]) == f"the parent of {hashes[1]}, which stays"
    flip(store, keys.provenance_key(hashes[2]), 90)
    make_old(store, timedelta(days=30))
    with pytest.raises(CorruptCheckpoint, match="nothing was deleted"):
        prune_experiments(store, keep_latest=1)
    assert len(prune_experiments(store, keep_latest=1, parents=True).gone) == 2


def test_only_those_that_were_named_go():
    store = fresh_memory()
    first, second = aged(store, 20, 30)
    with pytest.raises(UnknownExperiment):
        prune_experiments(store, keep_latest=0, experiments=[first, "f" * 16])
    prune_experiments(store, keep_latest=0, experiments=[first])
    assert list_hashes(store) == [second]


def test_files_that_are_not_ours_stay():
    store = fresh_memory()
    [exp_hash] = aged(store, 30)
    store.put(f"checkpoints/{exp_hash}/notes.txt", b"mine")
    prune_experiments(store, keep_latest=0)
    assert [info.key for info in store.list()] == [f"checkpoints/{exp_hash}/notes.txt"]
    assert prune_experiments(store, keep_latest=0).verdicts == ()


def test_checkpoints_go_first_and_the_record_last(tmp_path):
    store = folder(tmp_path / "s")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = [1.0]
    with CheckpointManagerV2(store, data_h5_path=tmp_path / "x.h5") as manager:
        manager.update_experiment_hash(Net(4), {})
        for step in (1, 2, 3):
            manager.save_model_checkpoint(Net(4), step=step)
    compress(store, steps=[1])
    parsed = [keys.parse_key(info.key) for info in deletion_order(store.list(keys.CHECKPOINTS))]
    assert [found and found.kind for found in parsed] == [
        Kind.COMPRESSED_CHECKPOINT, Kind.CHECKPOINT, Kind.CHECKPOINT, Kind.ARCHITECTURE, Kind.ARCHITECTURE_TEXT,
        Kind.BACKUP_DIGEST, Kind.BACKUP, Kind.CONFIG, Kind.PROVENANCE,
    ]  # fmt: skip


@pytest.mark.parametrize("nth", [1, 3, 5, 6])
def test_a_kill_half_way_leaves_an_experiment_that_says_what_it_was(nth):
    inner = fresh_memory()
    [exp_hash] = aged(inner, 30)
    with pytest.raises(Killed):  # the first deletion is of the object that asked for the time
        prune_experiments(FaultyStore(inner, [Fail("delete", Killed(), nth=1 + nth)]), keep_latest=0)
    assert Experiment(inner, exp_hash).provenance().exp_hash == exp_hash
    assert verify(inner, deep=True).counts.get("damaged") is None
    prune_experiments(inner, keep_latest=0)
    assert list(inner.list()) == []


def test_a_refusal_says_which_experiments_went():
    inner = fresh_memory()
    first, second = sorted(aged(inner, 20, 30))
    store = FaultyStore(inner, [Fail("delete", AccessDenied("not you"), key=keys.provenance_key(second))])
    with pytest.raises(AccessDenied) as raised:
        prune_experiments(store, keep_latest=0)
    assert raised.value.__notes__ == [f"experiment {second} went in part; whole ones that went before: {first}"]


def test_limits_that_make_no_sense_are_refused():
    for wrong in ({}, {"keep_latest": -1}, {"keep_latest": True}, {"older_than": timedelta(days=-1)}):
        with pytest.raises(ValueError, match=r"older_than|keep_latest"):
            prune_experiments(fresh_memory(), **wrong)


# -- garbage --------------------------------------------------------------------------------------------


def test_old_unfinished_writes_go_and_young_ones_stay(tmp_path):
    store = folder(tmp_path)
    exp_hash = new_experiment(store)
    paths = []
    for step, age in ((8, timedelta(days=3)), (9, timedelta(0))):
        key = keys.checkpoint_key(exp_hash, step)
        started = int((datetime.now(UTC) - age).timestamp() * 1e9)
        name = f".ckptstore-{started:016x}-{'0' * 16}-{keys.file_name(key)}"
        paths.append((tmp_path / key).with_name(name))
        paths[-1].write_bytes(b"half")
    (tmp_path / keys.model_prefix(exp_hash) / "best.tmp").write_bytes(b"mine")
    planned = collect_garbage(store, dry_run=True)
    assert [path.exists() for path in paths] == [True, True]
    done = collect_garbage(store)
    assert [path.exists() for path in paths] == [False, True]
    assert planned.items == done.items
    assert [(item.kind, item.goes) for item in done.items] == [("upload", True), ("upload", False)]
    assert (tmp_path / keys.model_prefix(exp_hash) / "best.tmp").exists()


def test_an_unfinished_upload_in_a_bucket_is_aborted(s3_store):
    exp_hash = new_experiment(s3_store)
    begin_upload(s3_store, keys.checkpoint_key(exp_hash, 9))  # the simulator says that all of them began in 2010
    assert [item.key for item in collect_garbage(s3_store).gone] == [keys.checkpoint_key(exp_hash, 9)]
    assert list(s3_store.list_uploads()) == []


def test_the_unfinished_upload_of_another_program_is_left_alone(s3_store):
    begin_upload(s3_store, keys.CHECKPOINTS + "foreign.bin")
    assert collect_garbage(s3_store).items == ()
    assert [upload.key for upload in s3_store.list_uploads()] == [keys.CHECKPOINTS + "foreign.bin"]


def _twins(store, age=timedelta(days=2)):
    """Leave a `.pt` beside its `.pt.zst` as an interrupted compression does."""
    plain = put_checkpoint(store, HASH, 1)
    put_checkpoint(store, HASH, 2)
    held = bytes(store.get(plain))
    compress(store, steps=[1])
    packed = bytes(store.get(plain + ".zst"))
    store.put(plain, held)
    store.put(plain + ".zst", packed)
    make_old(store, age)
    return plain, plain + ".zst"


def test_the_form_that_was_written_first_goes_where_both_hold_the_same():
    store = fresh_memory()
    plain, packed = _twins(store)
    assert [item.key for item in collect_garbage(store, dry_run=True).gone] == [plain]
    [item] = collect_garbage(store).gone
    assert (item.kind, item.key) == ("twin", plain)
    assert packed in {info.key for info in store.list()}
    assert Experiment(store, HASH).checkpoint(1).info.key == packed


def test_after_an_interrupted_decompression_the_compressed_form_goes():
    store = fresh_memory()
    plain, packed = _twins(store)
    store.put(plain, bytes(store.get(plain)))
    make_old(store, timedelta(days=2))
    assert [item.key for item in collect_garbage(store).gone] == [packed]


@pytest.mark.parametrize("case", ["young", "damaged", "another"])
def test_both_forms_stay_where_it_is_not_certain(case):
    store = fresh_memory()
    plain, packed = _twins(store, timedelta(hours=1) if case == "young" else timedelta(days=2))
    if case == "damaged":
        flip(store, packed, 100)
    if case == "another":
        put_checkpoint(store, HASH, 1, value=2.0)
    make_old(store, timedelta(days=0 if case == "young" else 2))
    report = collect_garbage(store)
    assert report.gone == ()
    assert len(report.items) == 1
    assert {plain, packed} <= {info.key for info in store.list()}


def test_a_probe_of_a_killed_process_goes():
    store = fresh_memory()
    store.put(PROBE_PREFIX + "0" * 16, b"")
    assert [finding.kind for finding in verify(store).findings] == ["leftover"]
    assert collect_garbage(store).gone == ()
    make_old(store, timedelta(days=2))
    assert len(collect_garbage(store).gone) == 1
    assert list(store.list()) == []


def test_garbage_is_refused_by_a_limit_in_the_future():
    with pytest.raises(ValueError, match="not come yet"):
        collect_garbage(fresh_memory(), older_than=timedelta(hours=-1))


def test_a_path_is_opened_and_closed_again(tmp_path):
    with open_store(tmp_path) as store:
        new_experiment(store)
    assert collect_garbage(tmp_path).items == ()
    assert prune_experiments(tmp_path, keep_latest=1).gone == ()
