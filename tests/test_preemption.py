"""Signals: one last checkpoint at a safe point, or a flush; nothing in other processes, and what was there before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import uuid
from contextlib import contextmanager

import pytest

from ckptstore import CheckpointManagerV2
from ckptstore_backends.memory import MemoryStore
from tests.models import Net


@pytest.fixture(autouse=True)
def _handlers_as_they_were():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.fixture
def store():
    return MemoryStore(uuid.uuid4().hex)


def _open(store, **options):
    manager = CheckpointManagerV2(store, **options)
    manager.update_experiment_hash(Net())
    return manager


def test_a_loop_takes_its_last_checkpoint_after_the_step_that_a_signal_interrupted(store):
    with _open(store) as manager:
        manager.save_on_signal(signal.SIGTERM, signal.SIGUSR1)
        for step in range(10):
            assert step < 4
            if step == 3:
                os.kill(os.getpid(), signal.SIGUSR1)
            if manager.preempted:
                manager.save_model_checkpoint(Net(), step=step)
                break
        assert manager.get_checkpoint_info()["steps"] == [3]


def test_what_handled_a_signal_before_is_called_too_and_handles_it_again_afterwards(store):
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    try:
        with _open(store) as manager:
            manager.save_on_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGUSR1)
            assert (manager.preempted, seen) == (True, [signal.SIGUSR1])
        signal.raise_signal(signal.SIGUSR1)
        assert seen == [signal.SIGUSR1] * 2
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_the_second_interrupt_of_the_keyboard_is_one(store):
    with _open(store) as manager:
        manager.save_on_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert manager.preempted
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_two_managers_are_both_told(store):
    with _open(store) as first, _open(store) as second:
        first.save_on_signal(signal.SIGUSR1)
        second.save_on_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
        assert (first.preempted, second.preempted) == (True, True)


def test_managers_closed_in_another_order_handle_nothing_any_more(store):
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    try:
        first, second = _open(store), _open(store)
        first.save_on_signal(signal.SIGUSR1)
        second.save_on_signal(signal.SIGUSR1)
        first.close()
        signal.raise_signal(signal.SIGUSR1)
        assert (first.preempted, second.preempted, len(seen)) == (False, True, 1)
        second.close()
        signal.raise_signal(signal.SIGUSR1)
        assert len(seen) == 2
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_signals_are_for_the_main_thread(store):
    errors: list[str] = []

    def start():
        for act in (lambda: _open(store, flush_on_sigterm=True), lambda: manager.save_on_signal(signal.SIGTERM)):
            try:
                act()
            except ValueError as error:
                errors.append(str(error))

    with _open(store) as manager:
        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
    assert len(errors) == 2
    assert all("main thread" in error for error in errors)


@pytest.mark.parametrize("signals", [(), (signal.SIGKILL,), (12345,)], ids=["none", "SIGKILL", "unknown"])
def test_what_cannot_be_handled_is_refused(store, signals):
    with _open(store) as manager, pytest.raises(ValueError, match=r"(?i)signal"):
        manager.save_on_signal(*signals)


def test_a_program_that_ends_at_sigterm_cannot_go_on_to_a_last_checkpoint(store):
    with _open(store, flush_on_sigterm=True) as manager, pytest.raises(ValueError, match="flush_on_sigterm"):
        manager.save_on_signal(signal.SIGTERM)


PROGRAM = """
import os, signal, sys, threading, torch
from ckptstore import CheckpointManagerV2
from ckptstore_backends.local import LocalStore

class Held(LocalStore):
    def _put(self, key, body):
        if key.endswith(".pt"):
            print("in flight", flush=True)
            reached.set()
            sys.stdin.readline()
        return super()._put(key, body)

before, reached = sys.argv[2], threading.Event()
if before == "ignored":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if before == "leaves":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))
manager = CheckpointManagerV2(Held(sys.argv[1]), flush_on_sigterm=True)
model = torch.nn.Linear(50, 50)
manager.update_experiment_hash(model)
if before == "idle":
    print("in flight", flush=True)
else:
    handle = manager.save_model_checkpoint(model, step=1, blocking=False)
if before == "forked":
    reached.wait()
    if os.fork() == 0:
        signal.raise_signal(signal.SIGTERM)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == -signal.SIGTERM
    print("child ended", flush=True)
if before == "ignored":
    handle.result()
    sys.exit(5)
threading.Event().wait()
"""


@pytest.mark.parametrize(
    ("before", "status", "steps"),
    [("default", -signal.SIGTERM, [1]), ("leaves", 7, [1]), ("ignored", 5, [1]), ("idle", -signal.SIGTERM, [])],
)
def test_sigterm_waits_for_what_is_in_flight_and_then_does_what_it_did_before(tmp_path, before, status, steps):
    with _started(tmp_path, before) as program:
        assert program.stdout.readline() == "in flight\n"
        for _ in range(2):  # as launchers do
            program.send_signal(signal.SIGTERM)
        _, errors = program.communicate("\n", timeout=100)
    assert (program.returncode, errors) == (status, "")
    assert _steps(tmp_path) == steps


def test_a_forked_child_dies_of_sigterm_at_once_and_flushes_nothing(tmp_path):
    with _started(tmp_path, "forked") as program:
        assert [program.stdout.readline() for _ in range(2)] == ["in flight\n", "child ended\n"]
        program.send_signal(signal.SIGTERM)
        _, errors = program.communicate("\n", timeout=100)
    assert (program.returncode, errors) == (-signal.SIGTERM, "")
    assert _steps(tmp_path) == [1]


@contextmanager
def _started(folder, before):
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", PROGRAM, str(folder), before]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as program:
        try:
            yield program
        finally:
            program.kill()


def _steps(folder):
    with CheckpointManagerV2(folder) as manager:
        return manager.get_checkpoint_info(manager.list_experiment_hashes()[0])["steps"]
