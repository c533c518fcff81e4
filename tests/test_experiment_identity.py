"""Creating experiments: who is first, what is written in which order, what a crash leaves."""

from __future__ import annotations

import threading

import h5py
import numpy as np
import pytest
import yaml

from ckptstore import CheckpointManagerV2, SampleSet, Store, keys
from ckptstore.errors import ConfigTypeError, KeyNotFound, NoExperiment, UnsupportedUID
from ckptstore.testing import Fail, FaultyStore, Killed
from tests.models import Net

CONFIG = {"lr": 0.1}


@pytest.fixture
def h5_file(tmp_path):
    path = tmp_path / "main.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(3)
    return path


def test_the_record_says_what_the_hash_was_made_of(any_store):
    manager = CheckpointManagerV2(any_store, ignore=["log_level"], parent="0123456789abcdef")
    exp_hash, _ = manager.update_experiment_hash(Net(), {**CONFIG, "log_level": "debug"}, ["a", "b"])
    record = yaml.safe_load(bytes(any_store.get(keys.provenance_key(exp_hash))))
    assert record["exp_hash"] == exp_hash
    assert set(record["components"]) == {"model", "config", "data"}
    assert record["sample_count"] == 2
    assert record["ignored_keys"] == ["log_level"]
    assert record["parent"] == "0123456789abcdef"
    assert record["created_at"].endswith("+00:00")
    assert set(record["versions"]) == {"ckptstore", "torch", "python"}
    assert "conv" in record["modules"]
    assert record == manager.provenance()


def test_ignored_keys_may_come_from_an_iterator(any_store):
    manager = CheckpointManagerV2(any_store, ignore=iter(["log_level"]))
    manager.update_experiment_hash(config={"lr": 0.1, "log_level": "debug"})
    assert manager.provenance()["ignored_keys"] == ["log_level"]


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ({"ignore": 3}, "not iterable"),
        ({"parent": "zz"}, "'zz'"),
        ({"writer_rank": -1}, "writer_rank"),
        ({"save_policy": "sometimes"}, "save_policy"),
        ({"save_deadline_s": 0}, "save_deadline_s"),
        ({"keep": 3}, "no policy"),
    ],
)
def test_a_wrong_option_is_named_before_a_store_is_opened(option, named):
    with pytest.raises((TypeError, ValueError), match=named):
        CheckpointManagerV2("nosuchservice://bucket/prefix", **option)


def test_ignored_keys_leave_the_hash_alone(any_store):
    manager = CheckpointManagerV2(any_store, ignore=["log_level"])
    first, _ = manager.update_experiment_hash(config={**CONFIG, "log_level": "debug"})
    second, _ = manager.update_experiment_hash(config={**CONFIG, "log_level": "info"})
    assert first == second


def test_the_parent_is_the_experiment_before(any_store):
    manager = CheckpointManagerV2(any_store)
    first, _ = manager.update_experiment_hash(config={"lr": 1})
    second, _ = manager.update_experiment_hash(config={"lr": 2})
    assert manager.provenance(first)["parent"] is None
    assert manager.provenance(second)["parent"] == first


def test_the_parent_is_the_experiment_last_loaded_from(any_store):
    manager = CheckpointManagerV2(any_store)
    first, _ = manager.update_experiment_hash(Net(), {"lr": 1})
    manager.save_model_checkpoint(Net(), step=1)
    manager.update_experiment_hash(config={"lr": 2})
    manager.load_latest_checkpoint(Net(), exp_hash=first)
    third, _ = manager.update_experiment_hash(config={"lr": 3})
    assert manager.provenance(third)["parent"] == first


def test_exactly_one_of_many_racing_callers_created_it(any_store):
    managers = [CheckpointManagerV2(any_store) for _ in range(8)]
    barrier, results = threading.Barrier(8), []

    def create(manager):
        barrier.wait()
        results.append(manager.update_experiment_hash(config=CONFIG))

    threads = [threading.Thread(target=create, args=(manager,)) for manager in managers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({exp_hash for exp_hash, _ in results}) == 1
    assert sorted(is_new for _, is_new in results) == [False] * 7 + [True]


def test_force_writes_the_record_again_and_keeps_the_parent(any_store):
    manager = CheckpointManagerV2(any_store, parent="0123456789abcdef")
    exp_hash, _ = manager.update_experiment_hash(config=CONFIG)
    before = manager.provenance()
    other = CheckpointManagerV2(any_store)
    assert other.update_experiment_hash(config=CONFIG, force=True) == (exp_hash, True)
    assert other.provenance()["created_at"] > before["created_at"]
    assert other.provenance()["parent"] == "0123456789abcdef"


def test_a_crash_between_config_and_record_leaves_nothing_hollow(any_store):
    faulty = FaultyStore(any_store, [Fail("create", Killed())])
    with pytest.raises(Killed):
        CheckpointManagerV2(faulty).update_experiment_hash(config=CONFIG)
    (only,) = [info.key for info in any_store.list()]
    assert only.endswith("_config.yaml")
    manager = CheckpointManagerV2(any_store)
    _, is_new = manager.update_experiment_hash(config=CONFIG)
    assert is_new
    assert manager.load_config() == CONFIG


def test_a_failed_creation_leaves_the_manager_where_it_was(any_store):
    faulty = FaultyStore(any_store, [Fail("create", OSError("gone"), nth=2)])
    manager = CheckpointManagerV2(faulty)
    first, _ = manager.update_experiment_hash(config=CONFIG)
    with pytest.raises(OSError, match="gone"):
        manager.update_experiment_hash(config={"lr": 9})
    assert manager.exp_hash == first
    with pytest.raises(ConfigTypeError, match=r"config\['f'\]"):
        manager.update_experiment_hash(config={"f": print})
    assert manager.update_experiment_hash() == (first, False)


def test_a_missing_companion_is_written_again_by_the_next_call(any_store, h5_file):
    manager = CheckpointManagerV2(any_store, data_h5_path=h5_file, record_uids=True)
    exp_hash, _ = manager.update_experiment_hash(config=CONFIG, active_data_uids=["a"])
    companions = [
        keys.config_key(exp_hash),
        keys.backup_key(exp_hash),
        keys.backup_digest_key(keys.backup_key(exp_hash)),
        keys.uids_key(exp_hash),
        keys.backup_digest_key(keys.uids_key(exp_hash)),
    ]
    for key in companions:
        any_store.delete([key])
        assert manager.update_experiment_hash() == (exp_hash, False)
        assert any_store.stat(key).size_bytes > 0


def test_the_record_comes_last(any_store, h5_file):
    faulty = FaultyStore(any_store, [])
    CheckpointManagerV2(faulty, data_h5_path=h5_file).update_experiment_hash(config=CONFIG, active_data_uids=["a"])
    written = [call.key.rpartition("_")[2] for call in faulty.calls if call.operation in {"put", "create"}]
    assert written == ["config.yaml", "data.h5", "data.h5.sha256", "provenance.yaml"]


def test_recorded_uids_can_be_read_back(any_store, tmp_path):
    manager = CheckpointManagerV2(any_store, record_uids=True)
    exp_hash, _ = manager.update_experiment_hash(active_data_uids=["a", "a", b"\xff", 2**70, "x\0y", "\\0"])
    path = tmp_path / "uids.h5"
    path.write_bytes(any_store.get(keys.uids_key(exp_hash)))
    with h5py.File(path) as file:
        assert dict(zip(file["str/uid"].asstr()[()], file["str/count"][()], strict=True)) == {
            "a": 2,
            "x\\0y": 1,
            "\\\\0": 1,
        }
        assert list(file["bytes/uid"].asstr()[()]) == ["ff"]
        assert list(file["int/uid"].asstr()[()]) == [str(2**70)]


def test_a_sample_set_counts_as_its_members(any_store):
    manager = CheckpointManagerV2(any_store)
    samples = SampleSet(["a", "b", "c"])
    whole, _ = manager.update_experiment_hash(active_data_uids=samples)
    samples.discard("c")
    fewer, _ = manager.update_experiment_hash(active_data_uids=samples)
    assert fewer != whole
    assert CheckpointManagerV2(any_store).update_experiment_hash(active_data_uids=["b", "a"]) == (fewer, False)


@pytest.mark.parametrize("uids", ["sample_1", {"a": 1}, [1.5], [True], [None]])
def test_unsupported_uids_are_refused_and_nothing_is_written(any_store, uids):
    with pytest.raises(UnsupportedUID):
        CheckpointManagerV2(any_store).update_experiment_hash(active_data_uids=uids)
    assert list(any_store.list()) == []


def test_without_an_experiment_every_operation_says_what_to_do(any_store, h5_file):
    existing, _ = CheckpointManagerV2(any_store).update_experiment_hash(config=CONFIG)
    manager = CheckpointManagerV2(any_store)
    for act in (
        lambda: manager.save_model_checkpoint(Net(), step=1),
        lambda: manager.save_model_architecture(Net()),
        lambda: manager.save_config({}),
        lambda: manager.save_data_backup(h5_file),
        lambda: manager.load_latest_checkpoint(),
        lambda: manager.load_checkpoint(step=1),
        lambda: manager.resume(Net()),
        lambda: manager.load_config(),
        lambda: manager.load_architecture(trusted=True),
        lambda: manager.get_checkpoint_info(),
        lambda: manager.provenance(),
    ):
        with pytest.raises(NoExperiment, match=rf"call update_experiment_hash\(\) first .*{existing}"):
            act()


def test_a_component_given_later_makes_another_experiment(any_store):
    manager = CheckpointManagerV2(any_store)
    first, _ = manager.update_experiment_hash(config=CONFIG)
    second, is_new = manager.update_experiment_hash(model=Net())
    assert is_new
    assert first != second
    assert manager.load_config(second) == CONFIG


def test_an_experiment_without_config_has_no_config_file(any_store):
    manager = CheckpointManagerV2(any_store)
    exp_hash, _ = manager.update_experiment_hash(active_data_uids=[1])
    with pytest.raises(KeyNotFound):
        any_store.stat(keys.config_key(exp_hash))


def test_storage_options_beside_a_store_are_refused(any_store: Store):
    with pytest.raises(ValueError, match="go with a path or URL"):
        CheckpointManagerV2(any_store, storage_options={"key": "x"})
