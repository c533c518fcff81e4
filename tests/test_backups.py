"""Backups of the main data file."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import h5py
import numpy as np
import pytest

from ckptstore import CheckpointManagerV2, keys, open_store
from ckptstore.errors import BackupBusy, InvalidBackup, InvalidName
from ckptstore.testing import Fail, FaultyStore, Killed
from ckptstore_backends.memory import MemoryStore


def _write(path, values):
    with h5py.File(path, "w") as file:
        file["x"] = values
    return path


@pytest.fixture
def data(tmp_path):
    return _write(tmp_path / "main.h5", np.arange(100_000))


@pytest.fixture
def manager(any_store):
    manager = CheckpointManagerV2(any_store)
    manager.update_experiment_hash(config={"lr": 1})
    return manager


def _backup(manager, name="data"):
    return bytes(manager.store.get(keys.backup_key(manager.exp_hash, name)))


def test_a_backup_is_the_file_with_its_checksum_beside_it(manager, data):
    manager.save_data_backup(data)
    assert _backup(manager) == data.read_bytes()
    key = keys.backup_digest_key(keys.backup_key(manager.exp_hash))
    digest = hashlib.sha256(data.read_bytes()).hexdigest()
    assert bytes(manager.store.get(key)) == f"{digest}  {manager.exp_hash}_data.h5\n".encode()


def test_a_str_a_path_a_key_and_a_url_are_all_sources(manager, data):
    manager.save_data_backup(str(data), "a")
    manager.store.put("data/train.h5", data.read_bytes())
    manager.save_data_backup("data/train.h5", "b")
    manager.save_data_backup(data.as_uri(), "c")
    assert _backup(manager, "a") == _backup(manager, "b") == _backup(manager, "c") == data.read_bytes()


def test_a_second_backup_under_the_same_name_replaces_the_first(manager, data, tmp_path):
    manager.save_data_backup(data)
    other = _write(tmp_path / "other.h5", np.ones(3))
    manager.save_data_backup(other)
    assert _backup(manager) == other.read_bytes()
    assert manager.get_checkpoint_info()["data_backups"] == [f"{manager.exp_hash}_data.h5"]


def test_a_crash_while_replacing_never_leaves_another_files_checksum(manager, data, tmp_path):
    manager.save_data_backup(data)
    other = _write(tmp_path / "other.h5", np.ones(3))
    dying = CheckpointManagerV2(FaultyStore(manager.store, [Fail("put", Killed(), when="after")]))
    dying.update_experiment_hash(config={"lr": 1})
    with pytest.raises(Killed):
        dying.save_data_backup(other)
    assert manager.get_checkpoint_info()["data_backups"] == [f"{manager.exp_hash}_data.h5"]
    assert keys.backup_digest_key(keys.backup_key(manager.exp_hash)) not in {i.key for i in manager.store.list()}


def test_a_backup_is_automatic_on_every_new_hash(any_store, data):
    manager = CheckpointManagerV2(any_store, data_h5_path=data)
    for rate in (1, 2):
        exp_hash, _ = manager.update_experiment_hash(config={"lr": rate})
        assert bytes(any_store.get(keys.backup_key(exp_hash))) == data.read_bytes()


@pytest.mark.parametrize("content", [b"", b"not hdf5", b"\x89HDF\r\n\x1a\n"], ids=["empty", "text", "header only"])
@pytest.mark.parametrize("where", ["file", "key"])
def test_what_is_not_hdf5_is_refused_and_nothing_is_written(manager, tmp_path, content, where):
    path = tmp_path / "fake.h5"
    path.write_bytes(content)
    manager.store.put("data/fake.h5", content)
    with pytest.raises(InvalidBackup):
        manager.save_data_backup(path if where == "file" else "data/fake.h5")
    assert manager.get_checkpoint_info()["data_backups"] == []


def test_a_truncated_file_is_refused(manager, data, tmp_path):
    cut = tmp_path / "cut.h5"
    cut.write_bytes(data.read_bytes()[:-5000])
    with pytest.raises(InvalidBackup):
        manager.save_data_backup(cut)


def test_a_file_that_another_process_writes_is_refused_until_it_is_closed(manager, data):
    program = (
        "import h5py, sys; f = h5py.File(sys.argv[1], 'a'); print('open', flush=True); sys.stdin.read(); f.close()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, data], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdin is not None
        assert writer.stdout.readline() == "open\n"
        with pytest.raises(BackupBusy, match="open for writing"):
            manager.save_data_backup(data)
        writer.stdin.close()
        assert writer.wait(timeout=60) == 0
    manager.save_data_backup(data)


def test_a_file_open_for_writing_in_this_process_is_refused(manager, data):
    with h5py.File(data, "a"), pytest.raises(BackupBusy):
        manager.save_data_backup(data)


def test_a_missing_file_says_where_it_was_looked_for(manager):
    with pytest.raises(FileNotFoundError, match="neither on this machine nor as a key"):
        manager.save_data_backup("nowhere.h5")
    with pytest.raises(FileNotFoundError):
        manager.save_data_backup("/nowhere/at/all.h5")


@pytest.mark.parametrize("name", ["uids", "", "../x", "a/b", "ä", ".x"])
def test_a_backup_name_is_checked(manager, data, name):
    with pytest.raises(InvalidName):
        manager.save_data_backup(data, name)


@pytest.mark.parametrize("name", ["provenance", "", "../x", "a/b", "ä", ".x"])
def test_a_config_name_is_checked(manager, name):
    with pytest.raises(InvalidName):
        manager.save_config({}, config_name=name)


def test_a_source_in_another_store_is_streamed(manager, data):
    with open_store("memory://elsewhere") as other:
        other.put("sets/train.h5", data.read_bytes())
        manager.save_data_backup("memory://elsewhere/sets/train.h5")
    assert _backup(manager) == data.read_bytes()


class _Sizes(MemoryStore):
    """Writes down how much each put said that it would bring."""

    def __init__(self, name):
        super().__init__(name)
        self.said = {}

    def _put(self, key, body):
        self.said[key] = getattr(body, "size_bytes", None)
        return super()._put(key, body)


def test_a_bucket_knows_the_size_of_a_backup_before_its_first_byte(tmp_path, data):
    store = _Sizes(f"sizes {tmp_path}")
    with CheckpointManagerV2(store, record_uids=True) as manager:
        exp_hash, _ = manager.update_experiment_hash(config={"lr": 1}, active_data_uids=["a", "b"])
        manager.save_data_backup(data, backup_name="file")
        manager.save_data_backup(keys.backup_key(exp_hash, "file"), backup_name="object")
    names = [keys.backup_key(exp_hash, "file"), keys.backup_key(exp_hash, "object"), keys.uids_key(exp_hash)]
    assert [store.said[name] for name in names] == [store.stat(name).size_bytes for name in names]
