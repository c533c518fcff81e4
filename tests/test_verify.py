"""What verify finds, in every kind of store."""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
import shutil
from datetime import UTC, datetime, timedelta

import h5py
import pytest
import torch

from ckptstore import CheckpointManagerV2, keys, verify
from ckptstore.archive import plan
from ckptstore.compression import compress
from ckptstore.errors import AccessDenied, InvalidName, StoreUnavailable, UnknownExperiment
from ckptstore.experiment import Experiment
from ckptstore.testing import Fail, FaultyStore
from tests.bit_flips import build, try_flips
from tests.experiments import begin_upload, copied, flip, folder, fresh_memory, new_experiment, put_checkpoint
from tests.models import Net


def _found(report):
    return {(finding.kind, keys.file_name(finding.key).partition("_")[2]) for finding in report.findings}


def test_a_sound_store_has_no_findings(any_store):
    new_experiment(any_store)
    for deep in (False, True):
        report = verify(any_store, deep=deep)
        assert report.ok
        assert report.findings == ()
        [one] = report.experiments
        assert one.objects == 6
        assert one.read_bytes == (one.size_bytes if deep else 0)


def test_a_parent_whose_record_is_not_there_is_a_note():
    store = fresh_memory()
    with CheckpointManagerV2(store) as manager:
        parent, _ = manager.update_experiment_hash(Net(4), {"lr": 1})
        child, _ = manager.update_experiment_hash(Net(4), {"lr": 2})
    assert verify(store).findings == ()
    store.delete([info.key for info in store.list(keys.experiment_prefix(parent))])
    for experiments in (None, [child]):
        report = verify(store, experiments=experiments)
        assert report.ok
        [note] = report.findings
        assert (note.kind, note.key) == ("dangling", keys.provenance_key(child))
        assert note.detail == f"it came out of {parent}, whose record is not in this store"


@pytest.mark.parametrize("offset", [10, 70, -1, -50, -100, -300])
def test_a_flipped_bit_of_a_checkpoint_is_found_in_any_store(any_store, offset):
    exp_hash = new_experiment(any_store, steps=(1,))
    flip(any_store, keys.checkpoint_key(exp_hash, 1), offset)
    report = verify(any_store, deep=True)
    assert _found(report) == {("damaged", "step_000001.pt")}
    assert not report.ok


def test_sixty_random_flips_over_every_kind_of_file_are_found_and_repaired(tmp_path):
    store = build(tmp_path / "store")
    shutil.copytree(tmp_path / "store", tmp_path / "mirror")
    outcome = try_flips(store, folder(tmp_path / "mirror"), 60, seed=7)
    assert outcome.lost == []
    assert len(outcome.by_kind) == len(keys.Kind)


def test_a_flip_in_a_local_header_changes_nothing_that_is_loaded_and_is_found():
    store = fresh_memory()
    exp_hash = new_experiment(store, steps=(1,))
    flip(store, keys.checkpoint_key(exp_hash, 1), 16)  # of the first record's local header: its CRC32
    with CheckpointManagerV2(store) as manager:
        assert manager.load_checkpoint(step=1, exp_hash=exp_hash)["step"] == 1
    assert "outside of its records" in verify(store, deep=True).problems[0].detail


@pytest.mark.parametrize("kept", [0, 1, 100, -1])
def test_a_truncated_object_is_found(kept):
    store = fresh_memory()
    new_experiment(store, steps=(1,))
    for info in list(store.list(keys.CHECKPOINTS)):
        store.put(info.key, bytes(store.get(info.key))[:kept])
    report = verify(store, deep=True)
    assert {(finding.kind, finding.key) for finding in report.findings} == {
        ("damaged", info.key) for info in store.list(keys.CHECKPOINTS)
    }


def test_an_object_under_the_key_of_another_is_found():
    store = fresh_memory()
    first, second = new_experiment(store, config=1), new_experiment(store, config=2)
    store.copy(keys.checkpoint_key(first, 1), keys.checkpoint_key(second, 1))
    store.copy(keys.checkpoint_key(first, 1), keys.checkpoint_key(first, 2))
    store.copy(keys.provenance_key(first), keys.provenance_key(second))
    report = verify(store, deep=True)
    assert {finding.key for finding in report.problems} == {
        keys.checkpoint_key(first, 2), keys.provenance_key(second), keys.checkpoint_key(second, 1)
    }  # fmt: skip
    assert all("renamed or copied" in finding.detail for finding in report.problems)
    assert _found(verify(store)) == {("damaged", "provenance.yaml")}  # even without reading bytes


def test_a_record_whose_components_do_not_make_its_hash_is_found():
    store = fresh_memory()
    exp_hash = new_experiment(store)
    experiment = Experiment(store, exp_hash)
    record = experiment.provenance()
    experiment.overwrite_provenance(dataclasses.replace(record, components={**record.components, "data": "0" * 64}))
    assert "do not make the hash" in verify(store).problems[0].detail


def test_what_is_missing_orphaned_or_strange_shows_in_the_listing(tmp_path):
    store = folder(tmp_path / "s")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = [1.0]
    with CheckpointManagerV2(store, data_h5_path=tmp_path / "x.h5") as manager:
        manager.update_experiment_hash(Net(4), {"a": 1})
        manager.save_model_checkpoint(Net(4), step=1)
    exp_hash = str(manager.exp_hash)
    backup = keys.backup_key(exp_hash)
    store.put(backup[:-3] + "2.h5.sha256", b"x")
    store.delete([keys.config_key(exp_hash), keys.architecture_text_key(exp_hash), keys.backup_digest_key(backup)])
    store.put("checkpoints/notes.txt", b"mine")
    store.put(f"checkpoints/{exp_hash}/model/best.pt", b"mine")
    hollow = new_experiment(store, config=2, steps=())
    store.delete([keys.provenance_key(hollow)])
    bare = new_experiment(store, config=3)
    store.delete([keys.provenance_key(bare)])
    report = verify(store)
    assert {(finding.kind, finding.key) for finding in report.findings} == {
        ("missing", keys.config_key(exp_hash)),
        ("missing", keys.architecture_text_key(exp_hash)),
        ("missing", keys.backup_digest_key(backup)),
        ("orphaned", backup[:-3] + "2.h5.sha256"),
        ("foreign", "checkpoints/notes.txt"),
        ("foreign", f"checkpoints/{exp_hash}/model/best.pt"),
        ("hollow", keys.provenance_key(hollow)),
        ("missing", keys.provenance_key(bare)),
    }
    assert verify(store, experiments=[bare]).outside == ()
    store.delete([keys.architecture_key(exp_hash)])  # without either it is a model that could not be pickled
    assert "architecture" not in str(verify(store, experiments=[exp_hash]).findings)
    assert bytes(store.get("checkpoints/notes.txt")) == b"mine"


def test_files_of_older_tools_are_reported_as_unsealed_and_are_no_problem():
    store = fresh_memory()
    exp_hash = "ab" * 8
    saved, net = io.BytesIO(), Net(4)
    torch.save({"model_state_dict": net.state_dict()}, saved)
    store.put(keys.checkpoint_key(exp_hash, 1), saved.getvalue())
    legacy = io.BytesIO()
    torch.save({"model_state_dict": net.state_dict()}, legacy, _use_new_zipfile_serialization=False)
    store.put(keys.checkpoint_key(exp_hash, 2), legacy.getvalue())
    store.put(keys.config_key(exp_hash), b"lr: 0.1\n")
    store.put(keys.architecture_key(exp_hash), pickle.dumps({"layers": [1, 2]}))
    store.put(keys.architecture_text_key(exp_hash), b"Net()\n")
    store.put(keys.backup_key(exp_hash), b"\x89HDF\r\n\x1a\n")
    report = verify(store, deep=True)
    assert _found(report) == {
        ("missing", "provenance.yaml"),
        ("unsealed", "step_000001.pt"),
        ("unsealed", "step_000002.pt"),
        ("unsealed", "config.yaml"),
        ("unsealed", "architecture.pkl"),
        ("unsealed", "architecture.txt"),
        ("unsealed", "data.h5"),
    }
    assert [finding.kind for finding in report.problems] == ["missing"]


@pytest.mark.parametrize(
    ("key", "data"),
    [
        (keys.config_key("ab" * 8), b"lr: !!python/object:os.system {}\n"),
        (keys.config_key("ab" * 8), b"- 1\n"),
        (keys.config_key("ab" * 8), b"\xff\xfe"),
        (keys.architecture_key("ab" * 8), b"no pickle"),
        (keys.architecture_key("ab" * 8), pickle.dumps([1]) + b"\ncut trailer"),
        (keys.checkpoint_key("ab" * 8, 1), b"PK\3\4 and then nothing"),
    ],
)
def test_what_no_tool_would_have_written_is_damaged(key, data):
    store = fresh_memory()
    store.put(key, data)
    assert ("damaged", key) in {(finding.kind, finding.key) for finding in verify(store, deep=True).problems}


def test_a_flipped_record_of_a_file_that_torch_saved_is_found():
    store, saved = fresh_memory(), io.BytesIO()
    torch.save({"model_state_dict": {"w": torch.ones(1000)}}, saved)
    data = bytearray(saved.getvalue())
    data[data.index(b"\x80\x3f") + 2000] ^= 1
    store.put(keys.checkpoint_key("ab" * 8, 1), data)
    [damage] = [finding for finding in verify(store, deep=True).problems if finding.kind == "damaged"]
    assert "does not match its CRC32" in damage.detail


def test_a_newer_format_is_unreadable_and_a_flipped_marker_is_damage():
    store = fresh_memory()
    exp_hash = new_experiment(store, steps=(1,))
    key = keys.checkpoint_key(exp_hash, 1)
    data = bytearray(store.get(key))
    at = data.rindex(b"ckptstore1 ")
    data[at + 9 : at + 10] = b"3"
    store.put(key, data)
    assert verify(store, deep=True).problems[0].kind == "damaged"
    state = {"format": 99, "step": 1, "exp_hash": exp_hash, "model_state_dict": {}}
    store.put(key, plan(state).buffers())
    assert verify(store, deep=True).problems[0].kind == "unreadable"


def test_recorded_uids_that_are_not_those_of_the_record_are_found(tmp_path):
    store = folder(tmp_path)
    hashes = []
    for uids in (["a", "b"], ["a", "c"]):
        with CheckpointManagerV2(store, record_uids=True) as manager:
            hashes.append(manager.update_experiment_hash(Net(4), {}, uids)[0])
    first, second = map(keys.uids_key, hashes)
    store.copy(first, second)
    line = bytes(store.get(keys.backup_digest_key(first))).replace(hashes[0].encode(), hashes[1].encode())
    store.put(keys.backup_digest_key(second), line)
    [problem] = verify(store, deep=True).problems
    assert (problem.key, "UIDs" in problem.detail) == (second, True)


def test_unfinished_uploads_are_reported_with_their_age(tmp_path):
    store = folder(tmp_path)
    exp_hash = new_experiment(store)
    key = keys.checkpoint_key(exp_hash, 9)
    started = int((datetime.now(UTC) - timedelta(days=3)).timestamp() * 1e9)
    name = f".ckptstore-{started:016x}-{'0' * 16}-{keys.file_name(key)}"
    (tmp_path / key).with_name(name).write_bytes(b"half")
    report = verify(store)
    assert report.ok
    [finding] = report.experiments[0].findings
    assert (finding.kind, finding.key) == ("unfinished", key)
    assert "72.0 h ago, abandoned" in finding.detail


def test_an_upload_in_a_bucket_is_reported(s3_store):
    exp_hash = new_experiment(s3_store)
    key = keys.checkpoint_key(exp_hash, 9)
    begin_upload(s3_store, key)
    [finding] = verify(s3_store).findings
    assert (finding.kind, finding.key) == ("unfinished", key)
    assert "an upload that began" in finding.detail


def test_a_compressed_checkpoint_is_checked_by_its_blocks_and_as_the_checkpoint_that_it_is():
    store = fresh_memory()
    exp_hash = new_experiment(store, steps=(1, 2, 3))
    compress(store, steps=[1, 2])
    assert verify(store, deep=True).ok
    first, second = (keys.compressed_checkpoint_key(exp_hash, step) for step in (1, 2))
    flip(store, first, 100)
    store.copy(second, keys.compressed_checkpoint_key(exp_hash, 7))
    assert {finding.key for finding in verify(store, deep=True).problems} == {
        first, keys.compressed_checkpoint_key(exp_hash, 7)
    }  # fmt: skip


def test_a_compressed_file_of_torch_save_is_checked_by_the_digest_of_its_content():
    store, saved = fresh_memory(), io.BytesIO()
    torch.save({"model_state_dict": {"w": torch.zeros(10_000)}}, saved)
    for step in (1, 2):
        store.put(keys.checkpoint_key("ab" * 8, step), saved.getvalue())
    compress(store)
    report = verify(store, deep=True)
    assert [finding.kind for finding in report.problems] == ["missing"]


def test_an_object_that_may_not_be_read_is_a_finding_and_the_others_are_checked():
    inner = fresh_memory()
    exp_hash = new_experiment(inner, steps=(1, 2))
    flip(inner, keys.checkpoint_key(exp_hash, 2), 200)
    denied = Fail("get_ranges", AccessDenied("not you"), key=keys.checkpoint_key(exp_hash, 1), nth=None)
    report = verify(FaultyStore(inner, [denied]), deep=True)
    assert _found(report) == {("unreadable", "step_000001.pt"), ("damaged", "step_000002.pt")}


def test_a_record_that_may_not_be_read_is_a_finding():
    inner = fresh_memory()
    exp_hash = new_experiment(inner)
    denied = Fail("get_ranges", AccessDenied("not you"), key=keys.provenance_key(exp_hash), nth=None)
    assert _found(verify(FaultyStore(inner, [denied]))) == {("unreadable", "provenance.yaml")}


def test_a_store_that_goes_away_half_way_is_an_error():
    inner = fresh_memory()
    new_experiment(inner, steps=(1, 2))
    with pytest.raises(StoreUnavailable, match="gone"):
        verify(FaultyStore(inner, [Fail("get_ranges", StoreUnavailable("gone"), nth=4)]), deep=True)


def test_an_object_that_is_replaced_or_deleted_meanwhile_is_looked_at_once_more():
    store = fresh_memory()
    exp_hash = new_experiment(store, steps=(1, 2, 3))

    class Busy(FaultyStore):
        def _get_ranges(self, key, ranges, version):
            if version is not None and key == keys.checkpoint_key(exp_hash, 1) and not self.count("stat", key):
                put_checkpoint(store, exp_hash, 1)
            if key == keys.checkpoint_key(exp_hash, 2):
                store.delete([key])
            if key == keys.checkpoint_key(exp_hash, 3):
                put_checkpoint(store, exp_hash, 3)
            return super()._get_ranges(key, ranges, version)

    assert _found(verify(Busy(store), deep=True)) == {("changed", "step_000003.pt")}


def test_unknown_hashes_are_refused():
    store = fresh_memory()
    new_experiment(store)
    with pytest.raises(UnknownExperiment, match="ffffffffffffffff"):
        verify(store, experiments=["f" * 16])
    with pytest.raises(InvalidName):
        verify(store, experiments=["abc"])
    with pytest.raises(TypeError, match="list"):
        verify(store, experiments="f" * 16)


def test_an_empty_store_is_sound(any_store):
    report = verify(any_store, deep=True)
    assert report.ok
    assert report.as_dict()["experiments"] == []


def test_the_report_is_plain_data():
    store = fresh_memory()
    exp_hash = new_experiment(store)
    flip(store, keys.checkpoint_key(exp_hash, 1), 200)
    said = json.loads(json.dumps(verify(store, deep=True).as_dict()))
    assert (said["ok"], said["counts"], said["experiments"][0]["ok"]) == (False, {"damaged": 1}, False)


def test_progress_is_told_of_every_byte():
    class Told:
        expected = done = 0

        def expect(self, *, size_bytes=0, objects=0):
            self.expected += size_bytes

        def advance(self, *, size_bytes=0, objects=0):
            self.done += size_bytes

        def describe(self, what): ...

    store, told = fresh_memory(), Told()
    new_experiment(store)
    verify(copied(store), deep=True, progress=told)
    assert told.expected == told.done == sum(info.size_bytes for info in store.list())
