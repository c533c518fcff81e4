"""Opening a checkpoint without loading it."""

from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from ckptstore import CheckpointManagerV2, keys
from ckptstore.errors import CheckpointNotFound, CorruptCheckpoint, ObjectChanged, UnsupportedFormat
from ckptstore.testing import FaultyStore, FlipBit
from tests.models import Job, Net, Tied


@pytest.fixture
def job():
    return Job().train(1)


@pytest.fixture
def manager(any_store, job):
    manager = CheckpointManagerV2(any_store)
    manager.update_experiment_hash(job.model)
    manager.save_model_checkpoint(job.model, step=5, optimizer=job.optimizer, metadata={"loss": 0.5})
    return manager


def test_a_view_knows_what_the_checkpoint_holds(manager, job):
    view = manager.open_checkpoint(5)
    assert list(view) == list(job.model.state_dict())
    assert view.header["step"] == 5
    assert view.header["metadata"] == {"loss": 0.5}
    assert "model_state_dict" not in view.header
    info = view.info("head.weight")
    assert (info.shape, info.dtype, info.size_bytes) == ((3, 32), torch.float32, 384)


def test_a_view_reads_tensors_one_by_one_and_together(manager, job):
    view = manager.open_checkpoint(5)
    assert torch.equal(view["head.weight"], job.model.head.weight)
    state = job.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in view.items())
    assert list(view.read(prefix="norm.")) == [name for name in state if name.startswith("norm.")]
    assert list(view.read(["head.bias", "conv.bias"])) == ["head.bias", "conv.bias"]


def test_a_backbone_can_be_taken_from_another_experiment(manager, job):
    backbone = nn.Sequential()
    backbone.add_module("conv", nn.Conv2d(1, 8, 3))
    backbone.load_state_dict(manager.open_checkpoint(5).read(prefix="conv."))
    assert torch.equal(backbone.get_parameter("conv.weight"), job.model.conv.weight)


def test_tensors_that_share_memory_are_read_once_and_share_it(any_store):
    manager = CheckpointManagerV2(any_store)
    manager.update_experiment_hash(Tied())
    manager.save_model_checkpoint(Tied(), step=1)
    both = manager.open_checkpoint(1).read()
    assert both["encode.weight"].data_ptr() == both["decode.weight"].data_ptr()


def test_only_what_is_asked_for_is_read(any_store):
    model = nn.Sequential(nn.Linear(500, 500), nn.Linear(500, 3))
    counting = FaultyStore(any_store)
    manager = CheckpointManagerV2(counting)
    manager.update_experiment_hash(model)
    manager.save_model_checkpoint(model, step=1)
    counting.calls.clear()
    view = manager.open_checkpoint(1)
    assert [call.operation for call in counting.calls] == ["stat", "get_ranges"]
    assert torch.equal(view["1.weight"], model.get_parameter("1.weight"))
    assert [call.operation for call in counting.calls] == ["stat", "get_ranges", "get_ranges"]


def test_a_name_that_is_not_there_is_a_key_error(manager):
    view = manager.open_checkpoint(5)
    with pytest.raises(KeyError, match="nowhere"):
        view["nowhere"]
    assert "nowhere" not in view
    with pytest.raises(KeyError, match="nowhere"):
        view.info("nowhere")


def test_a_step_that_is_not_there_lists_those_that_are(manager):
    with pytest.raises(CheckpointNotFound, match="steps: 5"):
        manager.open_checkpoint(6)
    assert manager.open_checkpoint(6, nearest=True).header["step"] == 5


def test_a_checkpoint_replaced_meanwhile_is_never_mixed(manager):
    view = manager.open_checkpoint(5)
    manager.save_model_checkpoint(Job(8).model, step=5)
    with pytest.raises(ObjectChanged):
        view.read()


def test_a_flipped_bit_in_a_tensor_is_found_when_it_is_read(any_store, manager):
    key = keys.checkpoint_key(manager.exp_hash, 5)
    lying = CheckpointManagerV2(FaultyStore(any_store, [FlipBit(100, key=key)]))
    lying.update_experiment_hash(Net())
    view = lying.open_checkpoint(5)
    with pytest.raises(CorruptCheckpoint, match="does not match its CRC32"):
        view.read()


def test_a_file_of_torch_save_has_no_index(manager):
    buffer = io.BytesIO()
    torch.save({"model_state_dict": {}}, buffer)
    manager.store.put(keys.checkpoint_key(manager.exp_hash, 6), buffer.getvalue())
    with pytest.raises(UnsupportedFormat, match="written by another tool"):
        manager.open_checkpoint(6)
