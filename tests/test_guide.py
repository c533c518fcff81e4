"""What the user's guide shows, done on a folder, in memory and in buckets on every server."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator

import h5py
import numpy as np
import pytest
import torch
from upath import UPath

from ckptstore import CheckpointManagerV2, ExperimentHashGenerator, Store, ledgers
from tests.models import Job, Net, same

CONFIG = {"learning_rate": 0.001, "batch_size": 32, "optimizer": "adam"}
UIDS = [f"sample_{i}" for i in range(20)]


@pytest.fixture
def manager(every_store: Store) -> Iterator[CheckpointManagerV2]:
    with CheckpointManagerV2(root_log_dir=every_store) as manager:
        yield manager


@pytest.fixture(autouse=True)
def _empty_ledger() -> Iterator[None]:
    yield
    ledgers.clear()


def test_the_basic_set_up_gives_a_hash_and_the_layout(manager, every_store):
    exp_hash, is_new = manager.update_experiment_hash(model=Net(), config=CONFIG, active_data_uids=UIDS)
    assert re.fullmatch("[0-9a-f]{16}", exp_hash)
    assert is_new
    assert [info.key for info in every_store.list()] == [
        f"checkpoints/{exp_hash}/hp/{exp_hash}_config.yaml",
        f"checkpoints/{exp_hash}/hp/{exp_hash}_provenance.yaml",
    ]
    assert manager.update_experiment_hash(model=Net(), config=dict(CONFIG), active_data_uids=UIDS[::-1]) == (
        exp_hash,
        False,
    )


def test_a_training_run_saves_every_few_steps_and_loads_the_latest(manager, every_store):
    job = Job()
    exp_hash, _ = manager.update_experiment_hash(model=job.model, config=CONFIG, active_data_uids=UIDS)
    for step in range(0, 6, 2):
        job.train(2)
        path = manager.save_model_checkpoint(
            model=job.model, step=step, optimizer=job.optimizer, metadata={"loss": torch.tensor(0.5), "epoch": step}
        )
        assert path.name == f"{exp_hash}_step_{step:06d}.pt"
    manager.save_config({**CONFIG, "batch_size": 64})
    other = Job(seed=1)
    checkpoint = manager.load_latest_checkpoint(model=other.model, optimizer=other.optimizer)
    assert checkpoint["step"] == 4
    assert checkpoint["metadata"] == {"loss": 0.5, "epoch": 4}
    assert same(other.model.state_dict(), job.model.state_dict())
    assert same(other.optimizer.state_dict(), job.optimizer.state_dict())
    assert manager.load_config()["batch_size"] == 64
    assert [info.key.rpartition("/")[2] for info in every_store.list(f"checkpoints/{exp_hash}/model/")] == [
        f"{exp_hash}_architecture.pkl",
        f"{exp_hash}_architecture.txt",
        f"{exp_hash}_step_000000.pt",
        f"{exp_hash}_step_000002.pt",
        f"{exp_hash}_step_000004.pt",
    ]


def test_a_save_returns_a_path_on_disk_and_a_upath_elsewhere(manager, every_store):
    manager.update_experiment_hash(model=Net())
    path = manager.save_model_checkpoint(model=Net(), step=1)
    assert isinstance(path, pathlib.Path if every_store.url.startswith("file:") else UPath)


def test_each_component_changes_the_hash_and_opens_a_new_folder(manager):
    start, _ = manager.update_experiment_hash(model=Net(), config=CONFIG, active_data_uids=UIDS)
    wider, is_new = manager.update_experiment_hash(model=Net(width=9), config=CONFIG, active_data_uids=UIDS)
    assert is_new
    hotter, is_new = manager.update_experiment_hash(config={**CONFIG, "learning_rate": 0.01})
    assert is_new
    fewer, is_new = manager.update_experiment_hash(active_data_uids=UIDS[2:])
    assert is_new
    assert manager.list_experiment_hashes() == sorted({start, wider, hotter, fewer})


def test_a_component_left_out_keeps_its_last_known_value(manager):
    everything, _ = manager.update_experiment_hash(model=Net(), config=CONFIG, active_data_uids=UIDS)
    assert manager.update_experiment_hash(model=Net()) == (everything, False)
    assert manager.update_experiment_hash() == (everything, False)


def test_data_is_backed_up_under_its_hash(manager, every_store, tmp_path):
    data = tmp_path / "main.h5"
    with h5py.File(data, "w") as file:
        file["x"] = np.arange(10)
    exp_hash, is_new = manager.update_experiment_hash(model=Net(), config=CONFIG, active_data_uids=UIDS)
    assert is_new
    path = manager.save_data_backup(data_h5_path=data)
    assert path.name == f"{exp_hash}_data.h5"
    assert every_store.get(f"checkpoints/{exp_hash}/data/{exp_hash}_data.h5") == data.read_bytes()
    assert manager.get_checkpoint_info()["data_backups"] == [f"{exp_hash}_data.h5"]


def test_the_info_of_an_experiment_lists_what_it_consists_of(manager):
    exp_hash, _ = manager.update_experiment_hash(model=Net(), config=CONFIG, active_data_uids=UIDS)
    for step in (1_000_000, 999_999, 7):
        manager.save_model_checkpoint(model=Net(), step=step)
    manager.save_config({"lr": 1}, config_name="optimizer_config")
    info = manager.get_checkpoint_info(manager.list_experiment_hashes()[0])
    assert info["exp_hash"] == exp_hash
    assert info["model_checkpoints"] == [f"{exp_hash}_step_{s}.pt" for s in ("000007", "999999", "1000000")]
    assert info["steps"] == [7, 999_999, 1_000_000]
    assert info["architecture_saved"] is True
    assert info["configs"] == [f"{exp_hash}_config.yaml", f"{exp_hash}_optimizer_config.yaml"]
    assert info["data_backups"] == []
    assert info["size_bytes"] == sum(info["sizes"].values())
    assert manager.load_latest_checkpoint()["step"] == 1_000_000


def test_the_ledgers_stand_in_for_model_and_optimizer(manager):
    job = Job().train(2)
    ledgers.register_model("my_model", job.model)
    ledgers.register_optimizer("my_optimizer", job.optimizer)
    manager.update_experiment_hash(model=job.model)
    manager.save_model_checkpoint(model_name="my_model", optimizer_name="my_optimizer", step=100)
    trained = {name: value.clone() for name, value in job.model.state_dict().items()}
    job.train(2)
    checkpoint = manager.load_latest_checkpoint(model_name="my_model", optimizer_name="my_optimizer")
    assert checkpoint["step"] == 100
    assert same(dict(job.model.state_dict()), trained)


def test_the_hash_generator_stands_alone():
    generator = ExperimentHashGenerator()
    assert generator.get_last_hash() is None
    exp_hash = generator.generate_hash(model=Net(), config=CONFIG, active_data_uids=UIDS)
    assert generator.get_last_hash() == exp_hash
    assert set(generator.get_component_hashes()) == {"model", "config", "data", "combined"}
    assert generator.has_changed(model=Net(), config=CONFIG, active_data_uids=UIDS) == (False, set())
    changed, components = generator.has_changed(model=Net(9), config={**CONFIG, "x": 1}, active_data_uids=UIDS)
    assert changed
    assert components == {"model", "config"}


def test_the_generator_and_the_manager_agree(manager):
    generated = ExperimentHashGenerator().generate_hash(model=Net(), config=CONFIG, active_data_uids=UIDS)
    assert manager.update_experiment_hash(Net(), CONFIG, UIDS)[0] == generated


def test_the_default_root_is_root_experiment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with CheckpointManagerV2() as manager:
        manager.update_experiment_hash(config=CONFIG)
    assert (tmp_path / "root_experiment" / "checkpoints").is_dir()


def test_the_users_folders_are_made_on_disk_and_nothing_in_a_bucket(manager, every_store):
    folders = [manager.data_dir, manager.logs_dir]
    assert [folder.name for folder in folders] == ["data", "logs"]
    on_disk = every_store.url.startswith("file:")
    assert all(folder.is_dir() for folder in folders) if on_disk else list(every_store.list()) == []
