"""One round: an operation in a process of its own, killed at some moment, looked at, and run again to its end.

Every step runs in a fork, so that the process of the harness stays as it was when it began.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_BEYOND = 1.1  # some rounds are to end before the kill


class Operation(Protocol):
    """Something that may be killed at any moment. It works below a folder that every round gets afresh."""

    name: str

    def prepare(self, folder: Path) -> None:
        """Lay out what it works on, once; every round gets a copy."""

    def act(self, folder: Path, seed: int) -> None:
        """Do it; killed at some moment, and then done again, to its end, with the same seed."""

    def check(self, folder: Path) -> None:
        """Raise unless everything holds that has to hold after a kill at any moment."""

    def check_complete(self, folder: Path) -> None:
        """Raise unless it is done."""


class Broken(Exception):
    """A promise was not kept; the message says by what, and where the evidence is."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an operation.

    Attributes:
        name: of the operation.
        rounds: how many were run.
        killed: in how many the kill came before the end.
        seconds: how long one run takes at least when nobody kills it.
    """

    name: str
    rounds: int
    killed: int
    seconds: float


def strike(operation: Operation, rounds: int, seed: int, root: Path) -> Outcome:
    """Run so many rounds.

    Args:
        operation: what is killed.
        rounds: how often.
        seed: the same one gives the same moments.
        root: a folder for all of it, which is removed when everything holds.

    Raises:
        Broken: something was lost, half there, or not completed by the next run.
    """
    _in_fork(lambda: operation.prepare(root / "template"), "preparing", root)
    seconds = _duration(operation, root)
    moments = random.Random(f"{operation.name} {seed}")
    killed = 0
    for number in range(rounds):
        folder = root / f"round-{number}"
        shutil.copytree(root / "template", folder)
        killed += _round(operation, folder, seed + number, moments.uniform(0, seconds * _BEYOND))
        shutil.rmtree(folder)
    shutil.rmtree(root)
    return Outcome(operation.name, rounds, killed, seconds)


def _round(operation: Operation, folder: Path, seed: int, moment_s: float) -> bool:
    killed = _killed_after(lambda: operation.act(folder, seed), moment_s, folder)
    what = f"{operation.name}, seed {seed}, killed after {moment_s * 1e3:.2f} ms"
    _in_fork(lambda: operation.check(folder), f"what {what} left", folder)
    _in_fork(lambda: operation.act(folder, seed), f"the run after {what}", folder)
    _in_fork(lambda: operation.check(folder), f"what the run after {what} left", folder)
    _in_fork(lambda: operation.check_complete(folder), f"the outcome after {what}", folder)
    return killed


def _duration(operation: Operation, root: Path) -> float:
    taken = []
    for number in range(3):
        folder = root / f"trial-{number}"
        shutil.copytree(root / "template", folder)
        began = time.perf_counter()
        _in_fork(lambda folder=folder: operation.act(folder, 0), "a run without a kill", folder)  # type: ignore[misc]
        taken.append(time.perf_counter() - began)
        shutil.rmtree(folder)
    return min(taken)


def _killed_after(work: Callable[[], object], moment_s: float, folder: Path) -> bool:
    """Run work in a fork, kill that so long after it began, and tell whether the kill came first."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _run(work, folder, begun=writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as begun:
        begun.read(1)
    time.sleep(moment_s)
    os.kill(child, signal.SIGKILL)  # it may have ended, and is not waited for yet: its pid is still its own
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    _check(os.waitstatus_to_exitcode(status), "a run that ended before the kill", folder)
    return False


def _in_fork(work: Callable[[], object], what: str, folder: Path) -> None:
    child = os.fork()
    if not child:
        _run(work, folder)
    _, status = os.waitpid(child, 0)
    _check(os.waitstatus_to_exitcode(status), what, folder)


def _run(work: Callable[[], object], folder: Path, begun: int | None = None) -> None:
    """Do the work and end this process, whatever happens."""
    try:
        os.environ["CKPTSTORE_CACHE"] = str(folder.parent / f"{folder.name}-cache")
        if begun is not None:
            os.write(begun, b"!")
        work()
    except BaseException:  # noqa: BLE001  # it is told by the exit status
        traceback.print_exc(file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def _check(status: int, what: str, folder: Path) -> None:
    if status:
        raise Broken(f"{what} is not as promised; its own words are above, the evidence is in {folder}")
