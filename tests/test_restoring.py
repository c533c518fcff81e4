"""Restoring into all kinds of models and optimizers, under all kinds of circumstances."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from ckptstore import CheckpointManagerV2, CkptStoreWarning, keys, ledgers
from ckptstore.errors import IncompatibleCheckpoint, NewerFormat, UnsupportedModel
from tests.models import Job, Net, same


@pytest.fixture
def manager(tmp_path):
    manager = CheckpointManagerV2(tmp_path)
    manager.update_experiment_hash(config={"lr": 1})
    return manager


def _round_trip(manager, model, other, **parts):
    manager.save_model_checkpoint(model, step=1, **parts)
    manager.load_checkpoint(other, step=1)


@pytest.mark.parametrize("blocking", [True, False])
def test_a_default_device_changes_nothing(manager, blocking):
    model, other = Net(), Net()
    with torch.device("meta"):
        manager.save_model_checkpoint(model, step=1, blocking=blocking)
        manager.flush()
        manager.load_checkpoint(other, step=1)
    assert same(dict(other.state_dict()), dict(model.state_dict()))


def test_training_goes_on_with_what_was_loaded_in_inference_mode(manager):
    job = Job().train(1)
    manager.save_model_checkpoint(job.model, step=1, optimizer=job.optimizer)
    with torch.device("meta"):
        fresh = Net()
    other = Job(3)
    with torch.inference_mode():
        manager.load_checkpoint(other.model, step=1, optimizer=other.optimizer)
        manager.load_checkpoint(fresh, step=1)
    other.train(1)
    fresh(torch.randn(2, 1, 4, 4)).sum().backward()


def test_an_optimizer_made_before_a_meta_model_is_filled_goes_on_with_it(manager):
    job = Job().train(1)
    manager.save_model_checkpoint(job.model, step=1, optimizer=job.optimizer)
    with torch.device("meta"):
        model = Net()
    vars(model.head.weight)["no_decay"] = True
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    manager.load_checkpoint(model, step=1, optimizer=optimizer)
    assert optimizer.param_groups[0]["params"][0] is model.conv.weight
    assert vars(model.head.weight) == {"no_decay": True}
    assert torch.equal(
        optimizer.state[model.conv.weight]["exp_avg"], job.optimizer.state[job.model.conv.weight]["exp_avg"]
    )


def test_a_meta_buffer_that_no_checkpoint_holds_is_never_left_as_garbage(manager):
    class Rotary(nn.Linear):
        def __init__(self):
            super().__init__(2, 2)
            self.register_buffer("table", torch.arange(3.0), persistent=False)

    manager.save_model_checkpoint(Rotary(), step=1)
    with torch.device("meta"):
        model = Rotary()
    with pytest.raises(IncompatibleCheckpoint, match="table: on the meta device, not in the checkpoint"):
        manager.load_checkpoint(model, step=1)
    assert model.weight.is_meta


class Last(nn.Linear):
    """Has state of its own, and refuses it."""

    def get_extra_state(self):
        return {"version": 1}

    def set_extra_state(self, state):
        raise RuntimeError("no such version")


@pytest.mark.parametrize(
    "wrap", [nn.Sequential, lambda *layers: torch.compile(nn.Sequential(*layers), backend="eager")]
)
def test_a_module_that_refuses_its_state_leaves_those_before_it_as_they_were(manager, wrap):
    manager.save_model_checkpoint(nn.Sequential(nn.Linear(2, 2), Last(2, 2)), step=1)
    first = nn.Linear(2, 2)
    model = wrap(first, Last(2, 2))
    before = copy.deepcopy(first.state_dict())
    with pytest.raises(IncompatibleCheckpoint, match="no such version"):
        manager.load_checkpoint(model, step=1)
    assert same(dict(first.state_dict()), dict(before))


def test_an_interrupt_undoes_what_was_loaded(manager, monkeypatch):
    job = Job().train(1)
    manager.save_model_checkpoint(job.model, step=1, optimizer=job.optimizer, scheduler=job.scheduler)
    other = Job(3)

    class Interrupting(torch.optim.AdamW):
        def load_state_dict(self, state_dict):
            super().load_state_dict(state_dict)
            if state_dict["state"]:
                raise KeyboardInterrupt

    optimizer = Interrupting(other.model.parameters(), lr=0.5)
    with pytest.raises(KeyboardInterrupt):
        manager.load_checkpoint(other.model, step=1, optimizer=optimizer, scheduler=other.scheduler)
    assert other.scheduler.state_dict()["last_epoch"] == 0
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_a_state_that_a_hook_renames_is_left_to_torch(manager):
    old = nn.Linear(2, 2)
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(old)
    _round_trip(manager, old, new := parametrizations.weight_norm(nn.Linear(2, 2)))
    assert torch.allclose(new.weight, old.weight)
    with pytest.raises(IncompatibleCheckpoint):
        manager.load_checkpoint(parametrizations.weight_norm(nn.Conv1d(2, 2, 1)), step=1)


@pytest.mark.parametrize(
    "make",
    [
        lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [2, 2, 4]),
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=20),
        lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o),
        lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: 0.9**step),
        lambda o: torch.optim.lr_scheduler.SequentialLR(
            o,
            [torch.optim.lr_scheduler.ConstantLR(o), torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 3)],
            [2],
        ),
    ],
    ids=["MultiStep", "OneCycle", "Plateau", "Lambda", "Sequential"],
)
def test_schedulers_go_on_where_they_were(manager, make):
    def job(seed):
        torch.manual_seed(seed)
        model = nn.Linear(2, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        return model, optimizer, make(optimizer)

    def train(job, steps):
        rates = []
        for _ in range(steps):
            job[1].step()
            job[2].step(*([1.0] if isinstance(job[2], torch.optim.lr_scheduler.ReduceLROnPlateau) else []))
            rates.append(job[1].param_groups[0]["lr"])
        return rates

    first, second = job(0), job(1)
    train(first, 3)
    manager.save_model_checkpoint(first[0], step=1, optimizer=first[1], scheduler=first[2])
    manager.load_checkpoint(second[0], step=1, optimizer=second[1], scheduler=second[2])
    assert train(second, 5) == train(first, 5)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.Adagrad(p),
        lambda p: torch.optim.RMSprop(p, momentum=0.5),
        lambda p: torch.optim.Rprop(p),
        lambda p: torch.optim.ASGD(p),
        lambda p: torch.optim.Adafactor(p),
        lambda p: torch.optim.NAdam(p),
        lambda p: torch.optim.RAdam(p),
        lambda p: torch.optim.Adadelta(p),
    ],
)
def test_optimizers_go_on_bit_for_bit(manager, make):
    def train(model, optimizer, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            model(torch.ones(1, 4)).square().sum().backward()
            optimizer.step()

    first, second = nn.Linear(4, 3), nn.Linear(4, 3)
    one, two = make(first.parameters()), make(second.parameters())
    train(first, one, 3)
    manager.save_model_checkpoint(first, step=1, optimizer=one)
    manager.load_checkpoint(second, step=1, optimizer=two)
    train(first, one, 3)
    train(second, two, 3)
    assert same(dict(second.state_dict()), dict(first.state_dict()))


def test_keys_that_a_scheduler_put_into_a_group_are_no_difference(manager):
    model = nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=20)
    manager.save_model_checkpoint(model, step=1, optimizer=optimizer)
    named = torch.optim.Adam(model.named_parameters())
    manager.load_checkpoint(model, step=1, optimizer=named)


def test_an_optimizer_that_only_happened_to_be_in_the_ledger_is_passed_over(manager):
    job = Job()
    manager.save_model_checkpoint(job.model, step=1, save_optimizer=False)
    ledgers.register_optimizer("mine", job.optimizer)
    try:
        with pytest.warns(CkptStoreWarning, match="holds no optimizer; the ledger's keeps its state"):
            manager.load_checkpoint(job.model, step=1)
        manager.load_checkpoint(job.model, step=1, load_optimizer=False)
    finally:
        ledgers.clear()


def test_a_dead_weak_optimizer_of_another_model_is_in_nobodys_way(manager):
    other = Job()
    ledgers.register_optimizer("old", other.optimizer, weak=True)
    del other
    try:
        manager.save_model_checkpoint(Net(), step=1)
    finally:
        ledgers.clear()


@pytest.mark.parametrize("part", ["optimizer", "scheduler", "scaler"])
def test_what_is_no_object_with_state_is_refused_at_once(manager, part):
    with pytest.raises(TypeError, match=f"{part} is a dict"):
        manager.save_model_checkpoint(Net(), step=1, **{part: {}})
    with pytest.raises(TypeError, match=f"{part} is a dict"):
        manager.load_latest_checkpoint(Net(), **{part: {}})


def test_a_lazy_model_must_run_before_it_is_loaded_into(manager):
    manager.save_model_checkpoint(nn.Linear(2, 2), step=1)
    with pytest.raises((UnsupportedModel, IncompatibleCheckpoint), match=r"lazy|uninitialized"):
        manager.load_checkpoint(nn.LazyLinear(2), step=1)


def test_a_model_rebuilt_in_place_is_noticed(tmp_path):
    manager = CheckpointManagerV2(tmp_path)
    model = nn.Sequential(nn.Linear(2, 2))
    manager.update_experiment_hash(model)
    manager.save_model_checkpoint(model, step=1)
    model.append(nn.Linear(2, 2))
    with pytest.warns(CkptStoreWarning, match="made of another model"):
        manager.save_model_checkpoint(model, step=2)


def test_a_newer_archive_is_not_passed_over(manager):
    for step in (1, 2):
        manager.save_model_checkpoint(Net(), step=step)
    key = keys.checkpoint_key(manager.exp_hash, 2)
    manager.store.put(key, bytes(manager.store.get(key)).replace(b"ckptstore1 ", b"ckptstore2 "))
    with pytest.raises(NewerFormat, match="upgrade ckptstore"):
        manager.load_latest_checkpoint()


def test_metadata_becomes_numbers_in_tuples_too_and_is_cut_from_what_it_is_a_slice_of(manager):
    large = torch.zeros(100_000)
    path = manager.save_model_checkpoint(
        Net(), step=1, metadata={"pair": (torch.tensor(1), torch.tensor(0.5)), "slice": large[:3]}
    )
    assert manager.load_checkpoint(step=1)["metadata"]["pair"] == (1, 0.5)
    assert path.stat().st_size < 100_000


def test_another_bit_generator_of_numpy_is_restored_too(manager):
    import numpy as np

    setting: Any = np.random
    before = setting.get_bit_generator()
    try:
        setting.set_bit_generator(np.random.PCG64(7))
        manager.save_model_checkpoint(Net(), step=1)
        drawn = np.random.random(3).tolist()
        manager.resume(Net())
        assert np.random.random(3).tolist() == drawn
    finally:
        setting.set_bit_generator(before)
