"""Opening a checkpoint without loading it."""

from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from ckptstore import CheckpointManagerV2, CkptStoreWarning, keys
from ckptstore.errors import (
    CheckpointNotFound,
    CorruptCheckpoint,
    IncompatibleCheckpoint,
    ObjectChanged,
    UnsupportedFormat,
)
from ckptstore.testing import FaultyStore, FlipBit
from tests.models import Job, Net, Tied, same


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


class Backbone(nn.Module):
    def __init__(self, extra: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        if extra:
            self.other = nn.Linear(2, 2)


def test_a_part_of_a_checkpoint_is_loaded_into_a_model_of_its_own(manager, job):
    view, conv = manager.open_checkpoint(5), nn.Conv2d(1, 8, 3)
    assert view.load_into(conv, prefix="conv.") == ["conv.weight", "conv.bias"]
    assert torch.equal(conv.weight, job.model.conv.weight)
    with torch.device("meta"):
        whole = nn.DataParallel(Net())
    assert view.load_into(whole) == list(job.model.state_dict())
    assert same(dict(whole.module.state_dict()), dict(job.model.state_dict()))


def test_a_model_that_shares_some_names_takes_those(manager, job):
    view, model = manager.open_checkpoint(5), Backbone(extra=True).double()
    with pytest.raises(IncompatibleCheckpoint) as raised:
        view.load_into(model)
    assert "other.weight: in the model, not in the checkpoint" in raised.value.differences
    assert "head.weight: in the checkpoint, not in the model" in raised.value.differences
    with pytest.warns(CkptStoreWarning, match="lacks 2 entries of the model"):
        loaded = view.load_into(model, strict=False)
    assert loaded == [name for name in job.model.state_dict() if not name.startswith("head.")]
    assert torch.equal(model.conv.weight, job.model.conv.weight.double())


def test_what_does_not_fit_is_refused_before_anything_is_read(any_store, manager):
    store = FaultyStore(any_store)
    counting = CheckpointManagerV2(store)
    counting.update_experiment_hash(Job().model)
    view = counting.open_checkpoint(5)
    store.calls.clear()
    with pytest.raises(IncompatibleCheckpoint, match=r"weight: shape \[9, 1, 3, 3\] in the model"):
        view.load_into(nn.Conv2d(1, 9, 3), prefix="conv.")
    with pytest.raises(IncompatibleCheckpoint, match=r"no name begins with 'backbone.'; they begin with conv., norm"):
        view.load_into(nn.Conv2d(1, 8, 3), prefix="backbone.")
    assert store.calls == []


def test_warm_starting_a_backbone_moves_only_the_backbone(s3_store, http_log):
    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Sequential(*[nn.Linear(300, 300) for _ in range(8)])
            self.head = nn.Linear(300, 4000)

    manager, model = CheckpointManagerV2(s3_store), Large()
    manager.update_experiment_hash(config={})
    optimizer = torch.optim.AdamW(model.parameters())
    model.head(model.backbone(torch.ones(1, 300))).sum().backward()
    optimizer.step()
    manager.save_model_checkpoint(model, step=1, optimizer=optimizer)
    size = s3_store.stat(keys.checkpoint_key(str(manager.exp_hash), 1)).size_bytes
    other = Large()
    http_log.clear()
    view = manager.open_checkpoint(1)
    assert http_log.count() == {"HEAD": 1, "GET": 1}
    http_log.clear()
    view.load_into(other.backbone, prefix="backbone.")
    (request,) = http_log.requests
    first, last = request.headers["RANGE"].removeprefix("bytes=").split("-")
    backbone = sum(value.nbytes for value in model.backbone.state_dict().values())
    assert backbone <= int(last) + 1 - int(first) < backbone * 1.01 < size / 4
    assert same(dict(other.backbone.state_dict()), dict(model.backbone.state_dict()))


def test_one_tensor_of_a_large_checkpoint_takes_three_requests(s3_store, http_log):
    manager = CheckpointManagerV2(s3_store)
    manager.update_experiment_hash(config={})
    model = nn.ParameterList([torch.full((1024, 1024), float(number)) for number in range(12)])
    manager.save_model_checkpoint(model, step=1)
    http_log.clear()
    assert torch.equal(manager.open_checkpoint(1)["7"], model[7])
    assert http_log.count() == {"HEAD": 1, "GET": 2}
