"""Loading into memory that is there: the model's own, or the file's."""

from __future__ import annotations

import copy
import io
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from ckptstore import CheckpointManagerV2, CkptStoreWarning
from ckptstore.archive import read_index
from ckptstore.errors import (
    CorruptCheckpoint,
    IncompatibleCheckpoint,
    ObjectChanged,
    PartlyLoaded,
    StoreUnavailable,
    UnsupportedFormat,
    UnsupportedOperation,
)
from ckptstore.objects import ByteRange
from ckptstore.testing import FaultyStore, FlipBit
from tests.models import Job, Net, Tied, checkpoint_key, same


@pytest.fixture
def loose(tmp_path):
    """A manager that takes any model."""
    manager = CheckpointManagerV2(tmp_path)
    manager.update_experiment_hash(config={"lr": 0.1})
    return manager


def _pointers(job):
    moments = [value for state in job.optimizer.state.values() for value in state.values()]
    return [tensor.data_ptr() for tensor in [*job.model.state_dict().values(), *moments]]


def _parts(job: Job) -> dict[str, Any]:
    return {"optimizer": job.optimizer, "scheduler": job.scheduler}


def _damage(manager, step, offset=200):
    data = bytearray(manager.store.get(checkpoint_key(manager, step)))
    data[offset] ^= 4
    manager.store.put(checkpoint_key(manager, step), bytes(data))


def test_everything_is_read_into_the_tensors_that_are_there_bit_for_bit(manager, saved):
    job = Job(9).train(1)
    before = _pointers(job)
    checkpoint = manager.load_latest_checkpoint(job.model, **_parts(job), in_place=True)
    assert checkpoint["step"] == 20
    assert same(job.state(), saved.state())
    assert _pointers(job) == before
    own = job.model.state_dict()
    assert all(value.data_ptr() == own[name].data_ptr() for name, value in checkpoint["model_state_dict"].items())
    for one in (job, saved):
        torch.manual_seed(7)
        one.train(1)
    assert same(job.state(), saved.state())


def test_an_optimizer_that_made_no_step_yet_gets_fresh_memory(manager, saved):
    job = Job(9)
    manager.load_checkpoint(job.model, step=20, **_parts(job), in_place=True)
    assert same(job.state(), saved.state())


def test_what_nobody_takes_is_not_read(any_store, manager, saved):
    index = read_index(any_store, checkpoint_key(manager))
    moment = index.state["optimizer_state_dict"]["state"][0]["exp_avg"].record
    offset = next(record.offset for record in index.records if record.name == moment)
    lying = CheckpointManagerV2(FaultyStore(any_store, [FlipBit(offset, key=checkpoint_key(manager))]))
    lying.update_experiment_hash(Net(), {"lr": 0.1}, ["a"])
    job = Job(5)
    state = lying.load_checkpoint(job.model, step=20, in_place=True)
    assert not {"optimizer_state_dict", "scheduler_state_dict"} & state.keys()
    assert same(dict(job.model.state_dict()), dict(saved.model.state_dict()))
    with pytest.raises(CorruptCheckpoint, match=f"record {moment}"):
        lying.load_checkpoint(job.model, step=20, **_parts(job), in_place=True)


def test_resuming_in_place(manager, saved):
    job = Job(9).train(1)
    assert manager.resume(job.model, job.optimizer, scheduler=job.scheduler, in_place=True)["step"] == 20
    assert same(job.state(), saved.state())


def test_a_meta_model_is_filled_in_place(manager, saved):
    with torch.device("meta"):
        model = Net()
    manager.load_checkpoint(model, step=20, in_place=True)
    assert same(dict(model.state_dict()), dict(saved.model.state_dict()))


class Odd(nn.Module):
    """Tensors that share memory, are transposed, sliced, empty, of one element, of several dtypes."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        both = torch.randn(20)
        self.low = nn.Parameter(both[:10])
        self.high = nn.Parameter(both[10:])
        self.turned = nn.Parameter(torch.randn(4, 3).t())
        self.slice = nn.Parameter(torch.randn(6, 6)[::2, ::3])
        self.last = nn.Parameter(torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last))
        self.empty = nn.Parameter(torch.empty(0, 3))
        self.short = nn.Parameter(torch.randn(3, 1, 3).half())
        self.register_buffer("count", torch.tensor(seed))
        self.register_buffer("mask", torch.rand(5) > 0.5)
        self.register_buffer("phase", torch.randn(3, dtype=torch.complex64))


@pytest.mark.parametrize("wrap", [lambda model: model, nn.DataParallel])
def test_tensors_of_every_kind_are_right(loose, wrap):
    model, other = Odd(1), wrap(Odd(2))
    loose.save_model_checkpoint(model, step=1)
    loose.load_checkpoint(other, step=1, in_place=True)
    assert same(dict(getattr(other, "module", other).state_dict()), dict(model.state_dict()))


def test_an_order_of_dimensions_that_differs_is_converted(loose):
    model, other = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
    other.weight.data = other.weight.data.to(memory_format=torch.channels_last)
    loose.save_model_checkpoint(model, step=1)
    loose.load_checkpoint(other, step=1, in_place=True)
    assert torch.equal(other.weight, model.weight)
    double = nn.Conv2d(3, 4, 3).double()
    loose.load_checkpoint(double, step=1, in_place=True, strict=False)
    assert torch.equal(double.weight, model.weight.double())


def test_ties_are_kept_and_ties_that_the_checkpoint_lacks_get_one_of_its_values(loose):
    model, other = Tied(), Tied()
    loose.save_model_checkpoint(model, step=1)
    loose.load_checkpoint(other, step=1, in_place=True)
    assert other.encode.weight is other.decode.weight
    assert torch.equal(other.encode.weight, model.encode.weight)
    untied = copy.deepcopy(model)
    untied.decode.weight = nn.Parameter(torch.randn_like(model.decode.weight))
    loose.save_model_checkpoint(untied, step=2)
    loose.load_checkpoint(other, step=2, in_place=True)
    assert torch.equal(other.encode.weight, untied.decode.weight)  # as load_state_dict does: the last one


class Viewed(nn.Module):
    """A buffer that is all of a parameter's memory in another shape, or has memory of its own."""

    def __init__(self, view: Callable[[torch.Tensor], torch.Tensor], *, shared: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4))
        seen = view(self.weight.detach())
        self.register_buffer("seen", seen if shared else seen.clone())


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    "view", [torch.t, torch.flatten, lambda t: t.view(torch.int32)], ids=["turned", "flat", "other bits"]
)
def test_two_views_of_the_same_memory_are_both_right(loose, view, shared):
    model, other = Viewed(view, shared=True), Viewed(view, shared=shared)
    loose.save_model_checkpoint(model, step=1)
    loose.load_checkpoint(other, step=1, in_place=True)
    assert same(dict(other.state_dict()), dict(model.state_dict()))


class Average:
    """Begins as the model's own memory."""

    def __init__(self, model: nn.Module) -> None:
        self.weight = model.get_parameter("weight")

    def state_dict(self):
        return {"weight": self.weight}

    def load_state_dict(self, state):
        self.weight = state["weight"].clone()


def test_what_shares_memory_with_the_model_gets_the_values_of_the_checkpoint(loose):
    model, other = nn.Linear(3, 3), nn.Linear(3, 3)
    loose.save_model_checkpoint(model, step=1, scheduler=Average(model))
    average = Average(other)
    loose.load_checkpoint(other, step=1, scheduler=average, in_place=True)
    assert torch.equal(average.weight, model.weight)
    assert torch.equal(other.weight, model.weight)


@pytest.mark.parametrize("in_place", [True, False])
def test_a_model_made_for_inference_is_loaded(loose, in_place):
    model = nn.Linear(3, 3)
    loose.save_model_checkpoint(model, step=1)
    with torch.inference_mode():
        other = nn.Linear(3, 3)
    loose.load_checkpoint(other, step=1, in_place=in_place)
    assert torch.equal(other.weight, model.weight)


def test_what_only_the_modules_own_code_can_tell_is_found_before_the_first_byte(loose):
    loose.save_model_checkpoint(nn.Linear(3, 3), step=1)
    other = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(IncompatibleCheckpoint, match="Missing key"):
        loose.load_checkpoint(other, step=1, in_place=True)
    assert same(dict(other.state_dict()), dict(before))


def test_a_module_with_code_of_its_own_for_loading_is_loaded(loose):
    model, other = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    model(torch.randn(5, 3))
    loose.save_model_checkpoint(model, step=1)
    loose.load_checkpoint(other, step=1, in_place=True)
    assert same(dict(other.state_dict()), dict(model.state_dict()))


class Refusing:
    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        return 1 / (0 if state else 1)


def test_what_does_not_fit_is_refused_before_the_first_byte(manager, saved):
    job = Job(5).train(1)
    before = copy.deepcopy(job.state())
    wrong = torch.optim.SGD(job.model.parameters(), lr=1)
    with pytest.raises(IncompatibleCheckpoint, match="optimizer group 0"):
        manager.load_checkpoint(job.model, step=20, optimizer=wrong, in_place=True)
    with pytest.raises(IncompatibleCheckpoint, match=r"head.weight: shape"):
        manager.load_checkpoint(Net(width=9), step=20, in_place=True)
    with pytest.raises(ZeroDivisionError):
        manager.load_checkpoint(job.model, step=20, **{**_parts(job), "scheduler": Refusing()}, in_place=True)
    assert same(job.state(), before)


def test_a_damaged_index_touches_nothing(manager, saved):
    job = Job(5).train(1)
    before = copy.deepcopy(job.state())
    _damage(manager, 20, offset=-100)
    with pytest.raises(CorruptCheckpoint):
        manager.load_checkpoint(job.model, step=20, **_parts(job), in_place=True)
    assert same(job.state(), before)


def test_damage_found_on_the_way_says_that_the_model_is_undefined(manager, saved):
    _damage(manager, 20)
    with pytest.raises(PartlyLoaded, match=r"record data/0 does not match its CRC32.* are undefined now; load a"):
        manager.load_checkpoint(Net(), step=20, in_place=True)


def test_a_damaged_newest_checkpoint_is_loaded_over(manager, saved):
    _damage(manager, 20)
    job, expected = Job(5).train(1), Job(6)
    manager.load_checkpoint(expected.model, step=10, **_parts(expected))
    with pytest.warns(CkptStoreWarning, match=r"checkpoint skipped: .*_step_000020.pt"):
        assert manager.load_latest_checkpoint(job.model, **_parts(job), in_place=True)["step"] == 10
    assert same(job.state(), expected.state())


def test_a_model_left_undefined_is_never_passed_over_silently(manager, saved):
    for step in (10, 20):
        _damage(manager, step)
    with pytest.warns(CkptStoreWarning, match="checkpoint skipped"), pytest.raises(PartlyLoaded, match="000010"):
        manager.load_latest_checkpoint(Net(), in_place=True)


def test_a_model_left_undefined_is_told_of_when_the_next_one_does_not_fit(loose):
    loose.save_model_checkpoint(nn.Linear(2, 2), step=10)
    loose.save_model_checkpoint(nn.Linear(3, 3), step=20)
    _damage(loose, 20)
    with pytest.warns(CkptStoreWarning, match="skipped"), pytest.raises(IncompatibleCheckpoint) as caught:
        loose.load_latest_checkpoint(nn.Linear(3, 3), in_place=True)
    assert "the values of model and optimizer are undefined" in "".join(caught.value.__notes__)


def test_a_connection_that_breaks_on_the_way_says_so_too(any_store, manager, saved):
    class Broken(FaultyStore):
        def _get_ranges_into(self, key: str, ranges: Sequence[ByteRange], *how: Any) -> Iterator[memoryview]:
            if len(ranges) == 1 and ranges[0].start == 64:  # the model's own
                raise StoreUnavailable("gone")
            return super()._get_ranges_into(key, ranges, *how)

    broken = CheckpointManagerV2(Broken(any_store))
    broken.update_experiment_hash(Net(), {"lr": 0.1}, ["a"])
    with pytest.raises(PartlyLoaded, match="gone; the values of model and optimizer are undefined"):
        broken.load_latest_checkpoint(Net(), in_place=True)


def test_a_checkpoint_replaced_on_the_way_is_never_mixed(any_store, manager, saved):
    class Replacing(FaultyStore):
        def _get_ranges_into(self, key: str, ranges: Sequence[ByteRange], *how: Any) -> Iterator[memoryview]:
            parts = super()._get_ranges_into(key, ranges, *how)
            if len(ranges) == 1 and ranges[0].start == 64:
                manager.save_model_checkpoint(Net(), step=20)
            return parts

    replacing = CheckpointManagerV2(Replacing(any_store))
    replacing.update_experiment_hash(Net(), {"lr": 0.1}, ["a"])
    with pytest.raises(PartlyLoaded) as raised:
        replacing.load_checkpoint(Net(), step=20, in_place=True)
    assert isinstance(raised.value.__cause__, ObjectChanged)


class CutOff(FaultyStore):
    def _get_ranges_into(self, *how: Any) -> Iterator[memoryview]:
        return (part[:10] for part in super()._get_ranges_into(*how))


class Elsewhere(FaultyStore):
    def _get_ranges_into(self, key: str, ranges: Sequence[ByteRange], *how: Any) -> Iterator[memoryview]:
        return super()._get_ranges_into(key, [ByteRange(r.start + 64, r.length) for r in ranges], *how)


@pytest.mark.parametrize("answers", [CutOff, Elsewhere])
def test_bytes_that_are_not_those_asked_for_are_never_loaded(any_store, manager, saved, answers):
    lying = CheckpointManagerV2(answers(any_store))
    lying.update_experiment_hash(Net(), {"lr": 0.1}, ["a"])
    with pytest.raises(CorruptCheckpoint, match=r"record data/\d+ (has \d+ of its|does not match)"):
        lying.open_checkpoint(20).read()
    with pytest.raises((CorruptCheckpoint, PartlyLoaded), match=r"record data/\d+ (has \d+ of its|does not match)"):
        lying.load_checkpoint(Net(), step=20, in_place=True)


def test_loading_in_place_needs_a_model_and_an_index(manager):
    with pytest.raises(ValueError, match="loads into a model"):
        manager.load_latest_checkpoint(in_place=True)
    with pytest.raises(ValueError, match="choose one"):
        manager.load_latest_checkpoint(Net(), in_place=True, mmap=True)
    buffer = io.BytesIO()
    torch.save({"model_state_dict": Net().state_dict()}, buffer)
    manager.store.put(checkpoint_key(manager, 6), buffer.getvalue())
    with pytest.raises(UnsupportedFormat, match="written by another tool"):
        manager.load_checkpoint(Net(), step=6, in_place=True)


def test_a_flipped_bit_is_found_in_whatever_way_tensors_are_read(any_store, manager, saved):
    lying = CheckpointManagerV2(FaultyStore(any_store, [FlipBit(200, key=checkpoint_key(manager))]))
    lying.update_experiment_hash(Net(), {"lr": 0.1}, ["a"])
    with pytest.raises(CorruptCheckpoint, match="record data/0 does not match its CRC32"):
        lying.load_checkpoint(step=20)
    with pytest.raises(PartlyLoaded, match="record data/0 does not match its CRC32"):
        lying.load_checkpoint(Net(), step=20, in_place=True)


# -- as the file itself ----------------------------------------------------------------------------------


@pytest.fixture
def on_disk(tmp_path):
    manager = CheckpointManagerV2(tmp_path)
    manager.update_experiment_hash(Net(), {"lr": 0.1})
    job = Job().train(2)
    manager.save_model_checkpoint(job.model, step=1, optimizer=job.optimizer)
    return manager, job


@pytest.mark.parametrize("mmap", [True, "verified"])
def test_a_mapped_checkpoint_is_the_file_until_it_is_written_to(on_disk, mmap):
    manager, job = on_disk
    before = manager.store.path(checkpoint_key(manager, 1)).read_bytes()
    other = Job(3)
    state = manager.load_checkpoint(other.model, step=1, optimizer=other.optimizer, mmap=mmap)
    assert same(dict(state["model_state_dict"]), dict(job.model.state_dict()))
    assert same(dict(other.model.state_dict()), dict(job.model.state_dict()))
    other.train(1)
    for value in state["model_state_dict"].values():
        value.zero_()
    assert manager.store.path(checkpoint_key(manager, 1)).read_bytes() == before


def test_a_mapped_checkpoint_stays_what_it_is_when_it_is_replaced_or_deleted(on_disk):
    manager, job = on_disk
    state = manager.load_checkpoint(step=1, mmap=True)
    manager.save_model_checkpoint(Net(), step=1)
    manager.store.delete([checkpoint_key(manager, 1)])
    assert same(dict(state["model_state_dict"]), dict(job.model.state_dict()))


def test_damage_in_a_mapped_checkpoint_is_found_only_when_asked_for(on_disk):
    manager, _ = on_disk
    _damage(manager, 1)
    assert manager.load_checkpoint(step=1, mmap=True)["step"] == 1
    with pytest.raises(CorruptCheckpoint, match="record data/0 does not match its CRC32"):
        manager.load_checkpoint(step=1, mmap="verified")
    with pytest.raises(ValueError, match="mmap is False, True or 'verified'"):
        manager.load_checkpoint(step=1, mmap="yes")


def test_only_files_can_be_mapped():
    manager = CheckpointManagerV2("memory://unmapped")
    manager.update_experiment_hash(Net())
    manager.save_model_checkpoint(Net(), step=1)
    with pytest.raises(UnsupportedOperation, match=r"in memory://unmapped is no file on this machine"):
        manager.load_latest_checkpoint(mmap=True)


# -- memory ----------------------------------------------------------------------------------------------

_PROGRAM = """
import sys, torch
from pathlib import Path
from ckptstore import CheckpointManagerV2

def peak():  # not ru_maxrss, which begins with that of the process before exec
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) // 1024

manager = CheckpointManagerV2(sys.argv[1])
manager.update_experiment_hash(config={})
model = torch.nn.ParameterList([torch.ones(4, 1024, 1024) for _ in range(8)])
before = peak()
manager.load_latest_checkpoint(model, in_place=True)
print(peak() - before)
manager.load_latest_checkpoint(model)
print(peak() - before)
"""


def test_loading_in_place_takes_no_second_copy_of_the_model(tmp_path):
    manager = CheckpointManagerV2(tmp_path)
    manager.update_experiment_hash(config={})
    manager.save_model_checkpoint(nn.ParameterList([torch.zeros(4, 1024, 1024) for _ in range(8)]), step=1)
    command = [sys.executable, "-c", _PROGRAM, str(tmp_path)]
    in_place, fresh = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert int(in_place) < 32  # MiB, of the model's 128
    assert int(fresh) > 100
