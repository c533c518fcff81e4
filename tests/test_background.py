"""Saving beside the training loop: what is saved is the moment of the call, and nothing is lost silently."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref

import psutil
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ckptstore import CheckpointManagerV2, CkptStoreWarning, keys
from ckptstore.errors import SaveReplaced, SaveStalled, StoreError, StoreFull, UnsavableState
from ckptstore.store import Store
from ckptstore.testing import CutPut, Fail, FaultyStore
from tests.models import Job, Net, same


class Gate(FaultyStore):
    """A store whose puts of checkpoints wait until they are let through."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.opened = threading.Event()
        self.reached = threading.Event()

    def _put(self, key, body):
        if key.endswith(".pt"):
            self.reached.set()
            assert self.opened.wait(60)
        return super()._put(key, body)


@pytest.fixture
def gate(any_store):
    gate = Gate(any_store)
    yield gate
    gate.opened.set()


def _open(store, model=None, **options):
    manager = CheckpointManagerV2(store, **options)
    manager.update_experiment_hash(model or Net())
    return manager


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, foreach=True),
        lambda p: torch.optim.AdamW(p, lr=0.1, foreach=True),
        lambda p: torch.optim.AdamW(p, lr=0.1, fused=True),
        lambda p: torch.optim.AdamW(p, lr=0.1, foreach=False, amsgrad=True),
    ],
    ids=["foreach momentum", "foreach", "fused", "one by one"],
)
def test_the_file_holds_the_moment_of_the_call_whatever_training_does_next(gate, make):
    job = Job()
    job.optimizer = make(job.model.parameters())
    job.scheduler = torch.optim.lr_scheduler.StepLR(job.optimizer, 3)
    job.train(3)
    manager = _open(gate)
    losses, curve = [1.0], torch.ones(3)
    metadata = {"losses": losses, "curve": curve}
    handle = manager.save_model_checkpoint(
        job.model, step=3, optimizer=job.optimizer, scheduler=job.scheduler, metadata=metadata, blocking=False
    )
    assert gate.reached.wait(60)
    assert not handle.done()
    expected = {name: value.clone() for name, value in job.model.state_dict().items()}
    expected_steps = job.scheduler.state_dict()["last_epoch"]
    moments = [{k: v.clone() for k, v in s.items() if v is not None} for s in job.optimizer.state.values()]
    job.train(3)
    for parameter in job.model.parameters():
        parameter.data.zero_()
    losses.append(2.0)
    curve.zero_()
    gate.opened.set()
    assert handle.result(60).name.endswith("_step_000003.pt")
    state = manager.load_checkpoint(step=3)
    assert same(dict(state["model_state_dict"]), expected)
    assert state["scheduler_state_dict"]["last_epoch"] == expected_steps
    assert state["metadata"]["losses"] == [1.0]
    assert torch.equal(state["metadata"]["curve"], torch.ones(3))
    for saved, moment in zip(state["optimizer_state_dict"]["state"].values(), moments, strict=True):
        assert all(torch.equal(saved[name], value) for name, value in moment.items())


def test_a_moving_average_and_batch_norm_are_copied_too(gate):
    model = Job().model
    average = AveragedModel(model)
    manager = _open(gate, average)
    average.update_parameters(model)
    expected = {name: value.clone() for name, value in average.state_dict().items()}
    handle = manager.save_model_checkpoint(average, step=1, blocking=False)
    model(torch.randn(4, 1, 4, 4))
    average.update_parameters(Job(3).model)
    gate.opened.set()
    handle.result(60)
    assert same(dict(manager.load_checkpoint(step=1)["model_state_dict"]), expected)


def test_closing_waits_until_everything_is_durable(any_store):
    with _open(any_store) as manager:
        handle = manager.save_model_checkpoint(Net(), step=1, blocking=False)
    assert handle.done()
    assert handle.stall_seconds > 0
    assert _open(any_store).load_latest_checkpoint()["step"] == 1


def test_one_save_is_in_flight_and_the_next_one_waits(gate):
    manager = _open(gate)
    first = manager.save_model_checkpoint(Net(), step=1, blocking=False)
    threading.Timer(0.2, gate.opened.set).start()
    second = manager.save_model_checkpoint(Net(), step=2, blocking=False)
    assert first.done()
    second.result(60)
    assert manager.get_checkpoint_info()["steps"] == [1, 2]


def test_the_policy_replace_keeps_the_newest_waiting_one(gate):
    manager = _open(gate, save_policy="replace")
    handles = [manager.save_model_checkpoint(Net(), step=step, blocking=False) for step in (1, 2, 3)]
    gate.opened.set()
    manager.flush()
    with pytest.raises(SaveReplaced, match=r"step 2 .* gave way"):
        handles[1].result(0)
    assert manager.get_checkpoint_info()["steps"] == [1, 3]


def test_a_blocking_save_comes_after_the_one_in_flight(gate):
    manager = _open(gate)
    handle = manager.save_model_checkpoint(Job(1).model, step=1, blocking=False)
    threading.Timer(0.2, gate.opened.set).start()
    model = Job(2).model
    manager.save_model_checkpoint(model, step=1)
    assert handle.done()
    assert same(dict(manager.load_checkpoint(step=1)["model_state_dict"]), dict(model.state_dict()))


def test_the_next_free_step_counts_the_one_in_flight(gate):
    manager = _open(gate, save_policy="replace")
    handles = [manager.save_model_checkpoint(Net(), blocking=False) for _ in range(2)]
    gate.opened.set()
    assert [handle.step for handle in handles] == [0, 1]
    manager.close()


def test_the_next_free_step_counts_a_given_one_in_flight(gate):
    model = Net()
    manager = _open(gate, model, save_policy="replace")
    manager.save_model_checkpoint(model, step=7, blocking=False)
    handle = manager.save_model_checkpoint(model, blocking=False)
    gate.opened.set()
    manager.close()
    assert handle.step == 8
    assert manager.get_checkpoint_info()["steps"] == [7, 8]


def test_the_next_free_step_counts_the_one_in_flight_after_the_hash_was_asked_for_again(gate):
    model = Net()
    manager = _open(gate, model, save_policy="replace")
    manager.save_model_checkpoint(model, blocking=False)
    manager.update_experiment_hash(model)
    handle = manager.save_model_checkpoint(model, blocking=False)
    gate.opened.set()
    manager.close()
    assert handle.step == 1
    assert manager.get_checkpoint_info()["steps"] == [0, 1]


def test_a_failed_save_is_raised_by_the_next_call_and_once(any_store):
    manager = _open(any_store)
    manager = _open(FaultyStore(any_store, [CutPut(10, StoreFull("no space left"), key=_key(manager, 1))]))
    handle = manager.save_model_checkpoint(Net(), step=1, blocking=False)
    with pytest.raises(StoreFull, match="no space left"):
        handle.result(60)
    with pytest.raises(StoreFull, match="no space left"):
        manager.save_model_checkpoint(Net(), step=2, blocking=False)
    manager.save_model_checkpoint(Net(), step=2, blocking=False)
    manager.close()
    assert manager.get_checkpoint_info()["steps"] == [2]


def _key(manager, step):
    return keys.checkpoint_key(manager.exp_hash, step)


def test_a_failed_save_is_raised_by_close(any_store):
    store = FaultyStore(any_store, [Fail("put", StoreError("gone"), nth=None)])
    manager = _open(store)
    manager.save_model_checkpoint(Net(), step=1, blocking=False)
    with pytest.raises(StoreError, match="gone"):
        manager.close()


def test_with_on_error_warn_an_outage_does_not_end_the_run(any_store):
    store, model = FaultyStore(any_store, [Fail("put", StoreError("outage"), nth=1)]), Net()
    with _open(store, on_error="warn") as manager:
        with pytest.raises(StoreError):
            manager.save_model_checkpoint(model, step=1, blocking=False).result(60)
        with pytest.warns(CkptStoreWarning, match="save of step 1 .* failed: outage"):
            manager.save_model_checkpoint(model, step=2, blocking=False)
    info = manager.get_checkpoint_info()
    assert info["steps"] == [2]
    assert info["architecture_saved"]


def test_an_error_of_the_program_is_not_hidden_by_a_lost_checkpoint(any_store, caplog):
    store = FaultyStore(any_store, [Fail("put", StoreError("outage"), nth=None)])

    def train():
        with _open(store) as manager:
            manager.save_model_checkpoint(Net(), step=1, blocking=False)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    assert "a checkpoint was lost while another error ends the program: outage" in caplog.text


def test_a_save_that_moves_no_byte_is_given_up(gate):
    manager = _open(gate, save_deadline_s=0.1)
    handle = manager.save_model_checkpoint(Net(), step=1, blocking=False)
    with pytest.raises(SaveStalled, match=r"moved no byte for 0\.1 s"):
        manager.flush()
    with pytest.raises(SaveStalled):
        handle.result(0)
    gate.opened.set()


def test_waiting_for_a_save_that_moves_no_byte_ends_too(gate):
    manager = _open(gate, save_deadline_s=0.1)
    with pytest.raises(SaveStalled, match=r"moved no byte for 0\.1 s"):
        manager.save_model_checkpoint(Net(), step=1, blocking=False).result(60)


def test_with_the_policy_replace_a_dead_store_is_noticed_too(gate):
    manager, model = _open(gate, save_policy="replace", save_deadline_s=0.1), Net()

    def save_for_ever():
        while True:
            manager.save_model_checkpoint(model, step=1, blocking=False)

    with pytest.raises(SaveStalled, match="step 1"):
        save_for_ever()


def test_a_large_tensor_that_is_on_its_way_shows_that_it_moves(any_store):
    class Sizes(FaultyStore):
        def _put(self, key, body):
            sizes.extend(view.nbytes for view in ([body] if isinstance(body, memoryview) else body))
            return super()._put(key, memoryview(b""))

    sizes: list[int] = []
    model = nn.Linear(20_000_000, 1, bias=False)
    with _open(Sizes(any_store), model) as manager:
        manager.save_model_checkpoint(model, step=1, blocking=False)
    assert sum(sizes) > 80_000_000
    assert max(sizes) == 64 * 1024**2


def test_a_model_that_is_replaced_meanwhile_is_freed(gate):
    manager, model = _open(gate), Net()
    memory = weakref.ref(next(model.parameters()))
    handle = manager.save_model_checkpoint(model, step=1, blocking=False)
    del model
    gc.collect()
    assert memory() is None
    gate.opened.set()
    handle.result(60)


def test_what_cannot_be_saved_is_refused_by_the_call_itself(any_store):
    manager = _open(any_store)
    with pytest.raises(UnsavableState, match=r"metadata\['fn'\]"):
        manager.save_model_checkpoint(Net(), step=1, metadata={"fn": print}, blocking=False)
    manager.save_model_checkpoint(Net(), step=1, blocking=False).result(60)


@pytest.mark.parametrize("options", [{"save_policy": "drop"}, {"on_error": "ignore"}, {"save_deadline_s": 0}])
def test_unknown_options_are_refused_at_once(any_store, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        CheckpointManagerV2(any_store, **options)


@pytest.mark.parametrize(
    "make", [lambda: nn.Linear(1000, 1000), lambda: nn.Sequential(*(nn.Linear(50, 50) for _ in range(400)))],
    ids=["one large tensor", "many small ones"],
)  # fmt: skip
def test_memory_does_not_grow_over_fifty_saves(tmp_path, make):
    model = make()
    process = psutil.Process()
    with _open(tmp_path, model) as manager:
        sizes = []
        for step in range(50):
            manager.save_model_checkpoint(model, step=step % 2, blocking=False)
            sizes.append(process.memory_info().rss)
    assert max(sizes[10:]) - sizes[5] < 3 * 4_000_000


EXITING = """
import sys, torch
from ckptstore import CheckpointManagerV2
manager = CheckpointManagerV2(sys.argv[1], storage_options=eval(sys.argv[2]))
model = torch.nn.Linear(500, 500)
manager.update_experiment_hash(model)
manager.save_model_checkpoint(model, step=1, blocking=False)
"""


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_a_program_that_ends_without_closing_still_saves(tmp_path, s3_url, s3_options, kind):
    url, options = (s3_url, s3_options) if kind == "s3" else (str(tmp_path), {})
    done = subprocess.run(
        [sys.executable, "-c", EXITING, url, repr(options)], capture_output=True, text=True, timeout=100, check=True
    )
    assert done.stderr == ""
    with CheckpointManagerV2(url, storage_options=options) as manager:
        assert manager.get_checkpoint_info(manager.list_experiment_hashes()[0])["steps"] == [1]


def test_a_forked_child_neither_waits_for_nor_repeats_its_parents_save(gate):
    manager = _open(gate)
    manager.save_model_checkpoint(Net(), step=1, blocking=False)
    child = os.fork()
    if child == 0:
        try:
            manager.flush()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    gate.opened.set()
    manager.close()
