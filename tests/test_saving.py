"""What a checkpoint file holds, and what a save that fails leaves behind."""

from __future__ import annotations

import enum
import errno
import random
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ckptstore import CheckpointManagerV2, CkptStoreWarning, keys, ledgers
from ckptstore.errors import (
    InvalidStep,
    LedgerError,
    StoreFull,
    UnsavableState,
    UnsupportedModel,
)
from ckptstore.testing import CutPut, Fail, FaultyStore
from tests.models import Job, Net, same


def _file(manager, step, tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(manager.store.get(keys.checkpoint_key(manager.exp_hash, step)))
    return path


@pytest.mark.parametrize("mmap", [False, True])
def test_plain_torch_load_reads_a_checkpoint(manager, tmp_path, mmap):
    job = Job().train(3)
    scaler = torch.amp.GradScaler("cpu")
    manager.save_model_checkpoint(
        job.model, step=3, optimizer=job.optimizer, scheduler=job.scheduler, scaler=scaler, metadata={"loss": 1.5}
    )
    state = torch.load(_file(manager, 3, tmp_path), weights_only=True, mmap=mmap)
    assert list(state) == [
        "format",
        "step",
        "exp_hash",
        "timestamp",
        "model_state_dict",
        "optimizer_state_dict",
        "scheduler_state_dict",
        "scaler_state_dict",
        "metadata",
        "config",
        "rng_state",
        "run_id",
        "resumed_from",
    ]
    assert (state["format"], state["step"], state["exp_hash"]) == (1, 3, manager.exp_hash)
    assert datetime.fromisoformat(state["timestamp"]).tzinfo == UTC
    assert same(dict(state["model_state_dict"]), dict(job.model.state_dict()))
    assert same(state["optimizer_state_dict"], job.optimizer.state_dict())
    assert state["metadata"] == {"loss": 1.5}
    assert state["config"] == {"lr": 0.1}
    assert state["run_id"] == manager.run_id
    assert state["resumed_from"] is None


def test_the_config_in_effect_is_the_one_last_saved(manager):
    manager.save_config({"lr": 0.5})
    manager.save_config({"other": 1}, config_name="other")
    manager.save_model_checkpoint(Net(), step=1)
    assert manager.load_checkpoint(step=1)["config"] == {"lr": 0.5}
    assert manager.update_experiment_hash() == (manager.exp_hash, False)


def test_what_is_not_given_is_not_in_the_file(any_store):
    manager = CheckpointManagerV2(any_store, save_rng=False)
    manager.update_experiment_hash(Net())
    job = Job()
    ledgers.register_optimizer("mine", job.optimizer)
    try:
        manager.save_model_checkpoint(job.model, step=1, save_optimizer=False)
    finally:
        ledgers.clear()
    state = manager.load_checkpoint(step=1)
    assert not {"optimizer_state_dict", "scheduler_state_dict", "scaler_state_dict", "rng_state"} & set(state)


def test_numbers_in_metadata_become_plain(manager):
    metadata = {
        "loss": torch.tensor(0.25),
        "n": np.int64(3),
        "f": np.float32(0.5),
        "deep": [{"x": torch.tensor(2)}],
        "when": datetime(2026, 1, 1, tzinfo=UTC),
        "where": Path("some") / "file",
        "curve": torch.arange(3),
    }
    manager.save_model_checkpoint(Net(), step=1, metadata=metadata)
    loaded = manager.load_checkpoint(step=1)["metadata"]
    assert torch.equal(loaded.pop("curve"), torch.arange(3))
    assert loaded == {
        "loss": 0.25,
        "n": 3,
        "f": 0.5,
        "deep": [{"x": 2}],
        "when": "2026-01-01T00:00:00+00:00",
        "where": "some/file",
    }
    assert [type(loaded[name]) for name in ("loss", "n", "f")] == [float, int, float]


def test_an_enum_in_metadata_becomes_its_value(manager):
    class Phase(enum.Enum):
        WARM = "warm"

    manager.save_model_checkpoint(Net(), step=1, metadata={"phase": Phase.WARM})
    assert manager.load_checkpoint(step=1)["metadata"] == {"phase": "warm"}


@pytest.mark.parametrize(
    ("metadata", "path"),
    [
        ({"deep": [1, {"fn": print}]}, r"metadata\['deep'\]\[1\]\['fn'\]"),
        ({"model": nn.Linear(1, 1)}, r"metadata\['model'\]"),
        ([1, 2], "metadata is a list"),
    ],
)
def test_metadata_that_could_not_be_loaded_is_refused_before_the_first_byte(manager, metadata, path):
    before = [info.key for info in manager.store.list()]
    with pytest.raises(UnsavableState, match=path):
        manager.save_model_checkpoint(Net(), step=1, metadata=metadata)
    assert [info.key for info in manager.store.list()] == before


@pytest.mark.parametrize("step", [-1, 1.0, "1", True])
def test_a_step_is_an_int_from_zero(manager, step):
    with pytest.raises(InvalidStep, match="not an int from 0 upwards"):
        manager.save_model_checkpoint(Net(), step=step)


def test_without_a_step_the_next_free_one_is_taken(manager):
    names = [manager.save_model_checkpoint(Net()).name for _ in range(2)]
    manager.save_model_checkpoint(Net(), step=999_999)
    names += [manager.save_model_checkpoint(Net()).name for _ in range(2)]
    assert names == [f"{manager.exp_hash}_step_{step}.pt" for step in ("000000", "000001", "1000000", "1000001")]


def test_saving_a_step_again_replaces_it(manager):
    first, second = Job(0).model, Job(1).model
    manager.save_model_checkpoint(first, step=1)
    manager.save_model_checkpoint(second, step=1)
    assert same(dict(manager.load_checkpoint(step=1)["model_state_dict"]), dict(second.state_dict()))
    assert manager.get_checkpoint_info()["steps"] == [1]


def test_a_model_without_anything_to_save_is_refused(manager):
    with pytest.raises(UnsupportedModel, match="neither parameters nor buffers"):
        manager.save_model_checkpoint(nn.ReLU(), step=1)


def test_what_is_no_module_is_refused(manager):
    with pytest.raises(UnsupportedModel, match="model is a dict"):
        manager.save_model_checkpoint({"weight": 1}, step=1)


def test_a_model_on_the_meta_device_has_nothing_to_save(manager):
    with pytest.raises(UnsavableState, match="meta"):
        manager.save_model_checkpoint(Net().to("meta"), step=1)


def test_without_model_and_ledger_the_error_says_what_to_give(manager):
    ledgers.clear()
    with pytest.raises(LedgerError, match="give its name or the object itself"):
        manager.save_model_checkpoint(step=1)


def test_contradictions_are_refused_at_once(manager):
    job = Job()
    with pytest.raises(ValueError, match="not both"):
        manager.save_model_checkpoint(job.model, model_name="x", step=1)
    with pytest.raises(ValueError, match="drop one"):
        manager.save_model_checkpoint(job.model, step=1, optimizer=job.optimizer, save_optimizer=False)
    with pytest.raises(ValueError, match="not both"):
        manager.save_model_checkpoint(job.model, step=1, optimizer=job.optimizer, optimizer_name="x")


def test_an_optimizer_of_another_model_in_the_ledger_is_not_saved(manager):
    other = Job()
    ledgers.register_optimizer("other", other.optimizer)
    try:
        manager.save_model_checkpoint(Net(), step=1)
    finally:
        ledgers.clear()
    assert "optimizer_state_dict" not in manager.load_checkpoint(step=1)


def test_another_model_than_the_hash_was_made_of_is_warned_about(manager):
    with pytest.warns(CkptStoreWarning, match="made of another model"):
        manager.save_model_checkpoint(Net(width=9), step=1)


@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, lambda model: torch.compile(model, backend="eager")], ids=["DataParallel", "compile"]
)
def test_wrappers_leave_no_trace_in_the_file_and_load_both_ways(manager, wrap):
    model = Job(1).model
    manager.save_model_checkpoint(wrap(model), step=1)
    state = manager.load_checkpoint(step=1)["model_state_dict"]
    assert list(state) == list(model.state_dict())
    assert vars(state)["_metadata"] == vars(model.state_dict())["_metadata"]
    wrapped = wrap(Job(2).model)
    manager.load_checkpoint(wrapped, step=1)
    assert all(torch.equal(a, b) for a, b in zip(wrapped.state_dict().values(), state.values(), strict=True))


def test_tied_weights_are_stored_once_and_stay_tied(any_store, tmp_path):
    from tests.models import Tied

    manager = CheckpointManagerV2(any_store)
    manager.update_experiment_hash(Tied())
    manager.save_model_checkpoint(Tied(), step=1)
    state = torch.load(_file(manager, 1, tmp_path), weights_only=True)["model_state_dict"]
    assert state["encode.weight"].data_ptr() == state["decode.weight"].data_ptr()


def test_a_save_that_fails_half_way_leaves_the_one_before(any_store):
    manager = CheckpointManagerV2(any_store)
    manager.update_experiment_hash(Net())
    model = Job(1).model
    manager.save_model_checkpoint(model, step=1)
    before = {info.key: info.version for info in any_store.list()}
    full = FaultyStore(any_store, [CutPut(1000, StoreFull("no space left"), nth=None)])
    failing = CheckpointManagerV2(full)
    failing.update_experiment_hash(Net())
    for step in (1, 2):
        with pytest.raises(StoreFull, match="no space left"):
            failing.save_model_checkpoint(Job(2).model, step=step)
    assert {info.key: info.version for info in any_store.list()} == before
    assert list(any_store.list_uploads()) == []
    assert same(dict(manager.load_checkpoint(step=1)["model_state_dict"]), dict(model.state_dict()))


def test_an_error_of_the_store_comes_out_as_it_is(any_store):
    manager = CheckpointManagerV2(FaultyStore(any_store, [Fail("put", OSError(errno.EIO, "bad disk"), nth=None)]))
    with pytest.raises(OSError, match="bad disk"):
        manager.update_experiment_hash(config={"lr": 1})


def test_saving_does_not_disturb_the_random_numbers(manager):
    model = Job().model
    torch.manual_seed(3)
    random.seed(3)
    manager.save_model_checkpoint(model, step=1)
    drawn = (torch.rand(1), random.random())
    torch.manual_seed(3)
    random.seed(3)
    assert drawn == (torch.rand(1), random.random())
