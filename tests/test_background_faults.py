"""What can go wrong around a background save: no memory, a killed program, forks. Never a wrong file or a hang."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import uuid

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from ckptstore import CheckpointManagerV2
from ckptstore.background import BackgroundSaver, Job
from ckptstore.errors import SaveStalled
from ckptstore.retention import Latest
from ckptstore.testing import FaultyStore
from ckptstore_backends.memory import MemoryStore
from tests.models import Job as Training
from tests.models import Net, same


class Gate(FaultyStore):
    """A store whose puts of checkpoints wait until they are let through."""

    def __init__(self) -> None:
        super().__init__(MemoryStore(uuid.uuid4().hex))
        self.opened = threading.Event()

    def _put(self, key, body):
        if key.endswith(".pt"):
            assert self.opened.wait(60)
        return super()._put(key, body)


@pytest.fixture
def in_flight():
    """A manager with a save in flight, its handle, and what lets it end."""
    gate = Gate()
    manager = CheckpointManagerV2(gate)
    manager.update_experiment_hash(Net())
    yield manager, manager.save_model_checkpoint(Net(), step=1, blocking=False), gate.opened
    gate.opened.set()
    manager.close()


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_a_loader_with_workers_runs_beside_a_save_in_flight(in_flight, context):
    _, handle, opened = in_flight
    loader = DataLoader(TensorDataset(torch.arange(8)), num_workers=2, multiprocessing_context=context)
    assert [int(value) for (value,) in loader] == list(range(8))
    assert not handle.done()
    opened.set()
    handle.result(60)
    assert handle.path.exists()


def test_a_worker_that_closes_its_copy_of_the_manager_leaves_the_save_alone(in_flight):
    manager, handle, opened = in_flight
    loader = DataLoader(
        TensorDataset(torch.arange(2)),
        num_workers=1,
        multiprocessing_context="fork",
        worker_init_fn=lambda _: manager.close(),
    )
    assert len(list(loader)) == 2
    assert not handle.done()
    opened.set()
    handle.result(60)
    manager.save_model_checkpoint(Net(), step=2, blocking=False).result(60)


def test_two_saves_of_one_step_leave_the_second(in_flight):
    manager, first, opened = in_flight
    model = Training(7).model
    threading.Timer(0.1, opened.set).start()
    second = manager.save_model_checkpoint(model, step=1, blocking=False)
    assert first.done()
    second.result(60)
    assert same(dict(manager.load_checkpoint(step=1)["model_state_dict"]), dict(model.state_dict()))


class StuckAnswer(FaultyStore):
    """A store that has every byte of the first checkpoint, and publishes it when it is let through."""

    def __init__(self) -> None:
        super().__init__(MemoryStore(uuid.uuid4().hex))
        self.opened, self.published = threading.Event(), threading.Event()
        self._first = True

    def _put(self, key, body):
        if not key.endswith(".pt") or not self._first:
            return super()._put(key, body)
        self._first = False
        data = b"".join([body] if isinstance(body, memoryview) else body)
        assert self.opened.wait(60)
        saved = super()._put(key, memoryview(data))
        self.published.set()
        return saved


@pytest.fixture
def stuck():
    """A manager whose save of step 1 was given up, though the store can still publish it; and the store."""
    store = StuckAnswer()
    manager = CheckpointManagerV2(store, save_deadline_s=1)
    manager.update_experiment_hash(Net())
    manager.save_model_checkpoint(Net(), step=1, blocking=False)
    with pytest.raises(SaveStalled):
        manager.flush()
    yield manager, store
    store.opened.set()
    manager.close()


@pytest.mark.parametrize("blocking", [False, True])
def test_a_save_that_was_given_up_never_replaces_a_newer_one_of_its_step(stuck, blocking):
    manager, store = stuck
    model = Training(7).model
    if blocking:
        threading.Timer(0.1, store.opened.set).start()
        manager.save_model_checkpoint(model, step=1)
    else:
        newer = manager.save_model_checkpoint(model, step=1, blocking=False)
        assert not newer.done()
        store.opened.set()
        newer.result(60)
    assert store.published.is_set()
    assert same(dict(manager.load_checkpoint(step=1)["model_state_dict"]), dict(model.state_dict()))


def test_while_a_save_that_was_given_up_can_be_published_its_step_is_refused_and_others_are_saved(stuck):
    manager, store = stuck
    with pytest.raises(SaveStalled, match="may still be published"):
        manager.save_model_checkpoint(Net(), step=1)
    waiting = manager.save_model_checkpoint(Net(), step=1, blocking=False)
    with pytest.raises(SaveStalled):
        waiting.result(60)
    with pytest.raises(SaveStalled, match="step 1"):  # the one that waited in vain; this one is durable
        manager.save_model_checkpoint(Net(), step=2)
    assert manager.get_checkpoint_info()["steps"] == [2]
    assert not store.published.is_set()


class LateEnd(FaultyStore):
    """A store that has the last bytes of a checkpoint, and asks whether there are more when it is let through."""

    def __init__(self) -> None:
        super().__init__(MemoryStore(uuid.uuid4().hex))
        self.opened, self.published = threading.Event(), 0

    def _put(self, key, body):
        if not key.endswith(".pt"):
            return super()._put(key, body)
        saved = super()._put(key, self._late(body))
        self.published += 1
        return saved

    def _late(self, body):
        for buffer in body:
            yield buffer
            if b"ckptstore1 " in bytes(buffer):
                assert self.opened.wait(60)


def test_a_save_given_up_before_the_store_saw_the_end_of_its_bytes_is_never_published():
    store = LateEnd()
    with CheckpointManagerV2(store, save_deadline_s=0.5) as manager:
        manager.update_experiment_hash(Net())
        manager.save_model_checkpoint(Net(), step=1, blocking=False)
        with pytest.raises(SaveStalled):
            manager.flush()
        threading.Timer(0.01, store.opened.set).start()
        manager.save_model_checkpoint(Net(), step=1)  # after the one that was given up has ended
    assert store.published == 1


NO_MEMORY = """
import re, resource, sys, torch
from pathlib import Path
from ckptstore import CheckpointManagerV2
from ckptstore.errors import NoMemoryForSnapshot
manager = CheckpointManagerV2(sys.argv[1])
model = torch.nn.Linear(5000, 5000)
manager.update_experiment_hash(model)
size = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (size + 80_000_000, -1))
try:
    manager.save_model_checkpoint(model, step=1, blocking=False)
except NoMemoryForSnapshot as error:
    print(error)
manager.save_model_checkpoint(model, step=2)
print(manager.get_checkpoint_info()["steps"])
"""


def test_without_memory_for_a_copy_the_call_says_so_and_a_blocking_save_still_works(tmp_path):
    said = _run(NO_MEMORY, tmp_path).stdout.splitlines()
    assert said[0].startswith("no memory for a copy of the state, 100,02")
    assert "save with blocking=True" in said[0]
    assert said[1] == "[2]"


KILLED = """
import os, signal, sys, torch
from ckptstore import CheckpointManagerV2
from ckptstore_backends.local import LocalStore

class Killer(LocalStore):
    def _put(self, key, body):
        return super()._put(key, self._half(body) if "000002" in key else body)

    def _half(self, body):
        yield next(body)
        os.kill(os.getpid(), signal.SIGKILL)

manager = CheckpointManagerV2(Killer(sys.argv[1]))
model = torch.nn.Linear(900, 900)
manager.update_experiment_hash(model)
manager.save_model_checkpoint(model, step=1, blocking=False).result()
manager.save_model_checkpoint(model, step=2, blocking=False).result()
"""


def test_a_program_killed_while_a_save_is_in_flight_leaves_the_checkpoint_before(tmp_path):
    assert _run(KILLED, tmp_path, check=False).returncode == -9
    with CheckpointManagerV2(tmp_path) as manager:
        [exp_hash] = manager.list_experiment_hashes()
        assert manager.get_checkpoint_info(exp_hash)["steps"] == [1]
        loaded = manager.load_latest_checkpoint(exp_hash=exp_hash)
        assert loaded is not None
        assert loaded["step"] == 1


LAST_WORDS = """
import atexit, sys, torch
from ckptstore import CheckpointManagerV2
model = torch.nn.Linear(3, 3)

def save():
    manager = CheckpointManagerV2(sys.argv[1])
    manager.update_experiment_hash(model)
    manager.save_model_checkpoint(model, step=1, blocking=False)
    manager.save_model_checkpoint(model, step=2)

atexit.register(save)
"""


def test_a_manager_can_be_made_while_the_program_ends(tmp_path):
    assert _run(LAST_WORDS, tmp_path).stderr == ""
    with CheckpointManagerV2(tmp_path) as manager:
        [exp_hash] = manager.list_experiment_hashes()
        assert manager.get_checkpoint_info(exp_hash)["steps"] == [1, 2]


def _nothing_more():
    """What is left to do after most saves."""


def test_an_error_that_comes_again_when_memory_is_given_back_is_told_at_once():
    def fail(_progress=None):
        raise RuntimeError("an illegal memory access was encountered")

    saver = BackgroundSaver(policy="wait", on_error="raise", deadline_s=60)
    for act in (fail, lambda _progress: _nothing_more):
        job = Job(act, fail, "save of step 1", "k")
        with saver.turn:
            saver.start(job)
        with pytest.raises(RuntimeError, match="illegal memory access"):
            job.outcome.result(30)
        saver.wait()
        with pytest.raises(RuntimeError, match="illegal memory access"):
            saver.report()


def test_where_no_thread_can_begin_a_save_is_made_at_once(monkeypatch):
    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    saver, done = BackgroundSaver(policy="wait", on_error="raise", deadline_s=60), []

    def save(_progress):
        done.append("saved")
        return _nothing_more

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for name in ("save of step 1", "save of step 2"):
        job = Job(save, lambda: done.append("discarded"), name, "k")
        with saver.turn:
            saver.make_room()
            saver.start(job)
        assert job.outcome.done()
    assert done.count("saved") == 2


class SlowDeletion(FaultyStore):
    """A store whose deletions wait until they are let through."""

    def __init__(self) -> None:
        super().__init__(MemoryStore(uuid.uuid4().hex))
        self.opened = threading.Event()

    def _delete(self, keys):
        assert self.opened.wait(60)
        super()._delete(keys)


def test_a_save_is_not_called_lost_when_the_pruning_that_follows_it_hangs(caplog):
    store = SlowDeletion()
    manager = CheckpointManagerV2(store, keep=Latest(1), save_deadline_s=0.5)
    manager.update_experiment_hash(Net())
    manager.save_model_checkpoint(Net(), step=1)
    handle = manager.save_model_checkpoint(Net(), step=2, blocking=False)
    assert handle.result(60).exists()
    manager.flush()
    assert "step 2" in caplog.text
    assert "is durable" in caplog.text
    manager.save_model_checkpoint(Net(), step=2, blocking=False).result(60)  # nothing older can be published over it
    store.opened.set()
    manager.close()


def test_what_follows_a_save_and_fails_is_logged_and_the_next_save_begins(caplog):
    saver = BackgroundSaver(policy="wait", on_error="raise", deadline_s=60)

    def fail():
        raise OSError("it cannot be tidied up")

    job = Job(lambda _progress: fail, _nothing_more, "save of step 1", "k")
    with saver.turn:
        saver.start(job)
    saver.wait()
    saver.report()
    assert job.outcome.result(0) is None
    assert "it cannot be tidied up" in caplog.text


def _run(program, folder, *, check=True):
    command = [sys.executable, "-c", program, os.fspath(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=check)
