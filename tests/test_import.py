"""The checkpoints of the older, flat layout become experiments."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ckptstore import CheckpointManagerV2, import_checkpoints
from ckptstore.errors import CorruptCheckpoint, StoreFull
from ckptstore.testing import CutPut, FaultyStore
from ckptstore_backends.local import LocalStore
from ckptstore_backends.memory import MemoryStore
from tests.models import Job, Net, same


@pytest.fixture
def old(tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    return folder


@pytest.fixture
def new(tmp_path):
    return MemoryStore(f"import {tmp_path}")


@pytest.fixture
def job():
    return Job().train(2)


def _index(folder: Path, content: Any, name: str = "index.json") -> None:
    (folder / name).write_text(json.dumps(content))


def _actions(report: Any) -> dict[str, str]:
    return {outcome.file: outcome.action for outcome in report.outcomes}


def _steps(report: Any) -> dict[str, int | None]:
    return {outcome.file: outcome.step for outcome in report.outcomes}


def test_a_run_goes_on_from_imported_checkpoints_under_its_own_hash(old, any_store, job):
    for number in (1, 2, 12):
        parts = {"model_state_dict": job.model.state_dict(), "optimizer_state_dict": job.optimizer.state_dict()}
        rest = {"scheduler": job.scheduler.state_dict(), "epoch": number}
        torch.save({**parts, **rest}, old / f"model_{number:04d}.pth")
    entries = {"1": {"step": 100, "loss": 0.5}, "2": {"step": 200}, "12": {"step": 1200, "created_at": "2099-01-02"}}
    _index(old, {"checkpoints": entries, "config": {"lr": 0.01}})
    report = import_checkpoints(old, any_store, model=job.model, active_data_uids=["a", "b"])
    assert report.ok
    assert _steps(report) == {"model_0001.pth": 100, "model_0002.pth": 200, "model_0012.pth": 1200}

    manager = CheckpointManagerV2(any_store)
    assert manager.update_experiment_hash(Net(), {"lr": 0.01}, ["b", "a"]) == (report.experiments[0], False)
    fresh = Job(seed=1)
    state = manager.resume(fresh.model, fresh.optimizer, scheduler=fresh.scheduler) or {}
    assert state["step"] == 1200
    assert state["timestamp"].startswith("2099-01-02T00:00:00")
    assert same(fresh.state(), job.state())
    assert manager.load_checkpoint(step=100)["metadata"].items() >= {"epoch": 1, "loss": 0.5}.items()
    assert manager.load_config() == {"lr": 0.01}
    assert manager.get_checkpoint_info()["architecture_saved"]


def test_the_highest_number_is_the_newest_though_a_copy_has_lost_the_order_of_times(old, new, job):
    for number, when in ((1, 300), (2, 100), (10, 200)):
        torch.save(job.model.state_dict(), old / f"model_{number}.pt")
        os.utime(old / f"model_{number}.pt", (when, when))
    manager = CheckpointManagerV2(new)
    (exp_hash,) = import_checkpoints(old, new, config={"lr": 1}).experiments
    assert manager.update_experiment_hash(config={"lr": 1}) == (exp_hash, False)
    assert (manager.resume(Net()) or {})["step"] == 10


def test_importing_again_changes_nothing_and_overwrites_nothing(old, new, job):
    torch.save(job.model.state_dict(), old / "ckpt_7.pt")
    assert _actions(import_checkpoints(old, new)) == {"ckpt_7.pt": "imported"}
    before = {info.key: info.version for info in new.list()}
    os.utime(old / "ckpt_7.pt", (1, 1))
    assert _actions(import_checkpoints(old, new)) == {"ckpt_7.pt": "present"}
    torch.save(Net().state_dict(), old / "ckpt_7.pt")
    report = import_checkpoints(old, new)
    assert _actions(report) == {"ckpt_7.pt": "conflict"}
    assert not report.ok
    assert {info.key: info.version for info in new.list()} == before


def test_a_dry_run_tells_the_same_and_writes_nothing(old, new, job):
    torch.save(job.model.state_dict(), old / "1.pt")
    torch.save(job.model.state_dict(), old / "model_1.pt")
    dry = import_checkpoints(str(old), new, dry_run=True)
    assert list(new.list()) == []
    real = import_checkpoints(str(old), new)
    assert dry.as_dict()["outcomes"] == real.as_dict()["outcomes"]
    assert _actions(real) == {"1.pt": "imported", "model_1.pt": "conflict"}


def test_what_is_not_understood_is_listed_and_left_alone(old, new, job):
    torch.save(job.model.state_dict(), old / "checkpoint-3.ckpt")
    for name in ("resnet50.pt", "epoch_4.pt", "best.pt", "notes.txt", "model_5.pt.bak"):
        (old / name).write_bytes(b"something")
    (old / "sub").mkdir()
    (old / "sub" / "model_9.pt").write_bytes(b"something")
    report = import_checkpoints(old, new)
    assert _steps(report) == {"checkpoint-3.ckpt": 3}
    assert report.unknown == ("best.pt", "epoch_4.pt", "model_5.pt.bak", "notes.txt", "resnet50.pt", "sub/")
    assert "epoch_4.pt" not in import_checkpoints(old, new, names=["epoch"]).unknown


def test_files_that_hold_no_checkpoint_fail_and_the_others_go_on(old, new, job):
    torch.save({"epoch": 3}, old / "model_1.pt")
    (old / "model_2.pt").write_bytes(b"no pickle")
    torch.save(torch.zeros(3), old / "model_3.pt")
    torch.save(job.model.state_dict(), old / "model_4.pt")
    data = (old / "model_4.pt").read_bytes()
    (old / "model_5.pt").write_bytes(data[: len(data) // 2])
    report = import_checkpoints(old, new)
    assert list(_actions(report).values()) == ["failed", "failed", "failed", "imported", "failed"]
    said = "model_1.pt holds no model under any of model_state_dict, state_dict, model, weights; it has 'epoch'"
    assert report.outcomes[0].reason == said


def test_a_pickled_model_is_unpickled_only_when_trusted(old, new, job):
    torch.save(job.model, old / "model_1.pt")
    torch.save({"model": job.model, "optimizer": job.optimizer, "step": 50, "config": {"lr": 1}}, old / "model_2.pt")
    torch.save(_Bomb(old / "ran"), old / "model_3.pt")
    report = import_checkpoints(old, new)
    assert set(_actions(report).values()) == {"refused"}
    assert "trusted=True" in report.outcomes[0].reason
    assert not (old / "ran").exists()
    report = import_checkpoints(old, new, trusted=True)
    assert list(_actions(report).values()) == ["imported", "imported", "failed"]
    assert (old / "ran").exists()
    assert _steps(report)["model_2.pt"] == 50
    manager = CheckpointManagerV2(new)
    exp_hash, is_new = manager.update_experiment_hash(Net(), {"lr": 1})
    assert (exp_hash, is_new) == (report.outcomes[1].exp_hash, False)
    fresh = Job(seed=1)
    manager.resume(fresh.model, fresh.optimizer)
    assert same(fresh.model.state_dict(), job.model.state_dict())
    assert isinstance(manager.load_architecture(trusted=True), Net)


class _Bomb:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self._path,)


@pytest.mark.parametrize(
    ("index", "steps"),
    [
        ({"1": {"step": 10}, "2": {"global_step": 20}}, [10, 20]),
        ({"1": "model_1.pt", "2": "./runs/model_2.pt"}, [1, 2]),
        ({"model_1.pt": 10, "model_2.pt": {"iteration": 20}}, [10, 20]),
        ([{"path": "/abs/model_1.pt", "step": 10}, {"checkpoint_id": 2}], [10, 2]),
        ({"checkpoints": [{"id": "1"}, {"filename": "model_2.pt"}], "latest": 2}, [1, 2]),
    ],
)
def test_every_shape_of_index_is_understood(old, new, job, index, steps):
    for number in (1, 2, 3):
        torch.save(job.model.state_dict(), old / f"model_{number}.pt")
    _index(old, index, "checkpoints.json")
    report = import_checkpoints(old, new)
    assert report.ok
    assert list(_steps(report).values()) == steps
    latest = isinstance(index, dict) and "latest" in index
    assert report.unknown == ("model_3.pt", *(["checkpoints.json: 'latest'"] if latest else []))


def test_a_file_that_the_index_names_but_is_not_there_is_said(old, new):
    _index(old, {"4": {"step": 3}, "gone.pt": {}})
    assert _actions(import_checkpoints(old, new)) == {"number 4": "missing", "gone.pt": "missing"}


DAMAGED = ["{", "3", '["x"]', '{"1": 2.5}', '[{"step": 3}]', '{"1": {"step": -1}}', '{"config": 3}', "[" * 99999]


@pytest.mark.parametrize("index", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_index_stops_everything_before_it_begins(old, new, job, index):
    torch.save(job.model.state_dict(), old / "model_1.pt")
    (old / "index.json").write_text(index)
    with pytest.raises(CorruptCheckpoint, match=r"index\.json in file:"):
        import_checkpoints(old, new)
    assert list(new.list()) == []


def test_ambiguous_folders_stop_everything_before_it_begins(old, new, job):
    for name in ("model_1.pt", "ckpt_1.pt"):
        torch.save(job.model.state_dict(), old / name)
    _index(old, {"1": {}})
    with pytest.raises(CorruptCheckpoint, match="may be any of"):
        import_checkpoints(old, new)
    _index(old, {"model_1.pt": 1}, "checkpoints.json")
    with pytest.raises(CorruptCheckpoint, match="contradict each other"):
        import_checkpoints(old, new)


def test_runs_are_kept_apart_by_config_and_by_the_shapes_of_their_tensors(old, new):
    torch.save(nn.Linear(2, 3).state_dict(), old / "model_1.pt")
    torch.save(nn.DataParallel(nn.Linear(2, 4)).state_dict(), old / "model_2.pt")
    torch.save(nn.Linear(2, 3).state_dict(), old / "model_3.pt")
    hashes = [outcome.exp_hash for outcome in import_checkpoints(old, new).outcomes]
    assert hashes[0] == hashes[2] != hashes[1]
    manager = CheckpointManagerV2(new)
    assert list(manager.load_checkpoint(step=2, exp_hash=hashes[1])["model_state_dict"]) == ["weight", "bias"]
    given = import_checkpoints(old, new, config={"lr": 1}).experiments
    assert len(given) == 1
    assert given[0] not in hashes
    assert manager.load_config(given[0]) == {"lr": 1}


def test_a_checkpoint_that_does_not_fit_the_given_model_is_not_imported(old, new):
    torch.save(nn.Linear(2, 3).state_dict(), old / "model_1.pt")
    report = import_checkpoints(old, new, model=nn.Linear(2, 4))
    assert _actions(report) == {"model_1.pt": "failed"}
    assert "does not fit the model that was given: weight" in report.outcomes[0].reason


def test_what_has_no_place_in_a_checkpoint_is_named(old, new, job):
    torch.save({"state_dict": job.model.state_dict(), "net": torch.device("cpu"), "odd": Net}, old / "model_1.pt")
    outcome = import_checkpoints(old, new, trusted=True).outcomes[0]
    assert (outcome.action, outcome.left_out) == ("imported", ("odd",))


def test_a_full_disk_ends_the_import_and_the_next_one_finishes_it(old, tmp_path, job):
    for number in (1, 2):
        torch.save(job.model.state_dict(), old / f"model_{number}.pt")
    target = LocalStore(tmp_path / "new")
    with pytest.raises(StoreFull):
        import_checkpoints(old, FaultyStore(target, [CutPut(1_000, StoreFull("no space"), nth=3)]))
    assert "imported" in _actions(import_checkpoints(old, target)).values()
    assert set(_actions(import_checkpoints(old, target)).values()) == {"present"}


def test_a_bucket_knows_the_size_of_a_checkpoint_before_its_first_byte(old, tmp_path, job):
    said = {}

    class Sizes(MemoryStore):
        def _put(self, key, body):
            said[key] = getattr(body, "size_bytes", None)
            return super()._put(key, body)

    torch.save(job.model.state_dict(), old / "model_0001.pth")
    store = Sizes(f"sizes {tmp_path}")
    assert import_checkpoints(old, store, model=job.model).ok
    [key] = [key for key in said if key.endswith("_step_000001.pt")]
    assert said[key] == store.stat(key).size_bytes
