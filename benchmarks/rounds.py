"""Contenders in processes of their own, taking turns: every round runs each of them once."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.contenders.contender import Setup

_WORKER = Path(__file__).with_name("worker.py")


@dataclass
class Outcome:
    """What one contender needed, round by round.

    Attributes:
        contender: its name.
        seconds: wall time.
        cpu_seconds: of all threads of its process.
        peak_mib: memory above what it held before.
    """

    contender: str
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    peak_mib: list[float] = field(default_factory=list)

    @property
    def best(self) -> float:
        """The least wall time."""
        return min(self.seconds)

    @property
    def median(self) -> float:
        """The middle wall time."""
        return statistics.median(self.seconds)


def take_turns(setups: Sequence[Setup], rounds: int) -> list[Outcome]:
    """Run every contender once in each round, after one round that does not count."""
    outcomes = [Outcome(setup.contender) for setup in setups]
    with ExitStack() as stack:
        workers = [stack.enter_context(_worker(setup)) for setup in setups]
        for worker, outcome in zip(workers, outcomes, strict=True):
            _asked(worker, outcome.contender)  # prepares
        for _ in range(rounds):
            for worker, outcome in zip(workers, outcomes, strict=True):
                figures = _asked(worker, outcome.contender)
                outcome.seconds.append(figures["seconds"])
                outcome.cpu_seconds.append(figures["cpu_seconds"])
                outcome.peak_mib.append(figures["peak_mib"])
    return outcomes


@contextmanager
def _worker(setup: Setup) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(_WORKER), json.dumps(asdict(setup))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        try:
            yield process
        finally:
            process.stdin.close()
            process.wait(timeout=60)


def _asked(process: subprocess.Popen[str], contender: str) -> dict[str, float]:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return _answer(process, contender)


def _answer(process: subprocess.Popen[str], contender: str) -> dict[str, float]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{contender!r} ended with {process.wait()}; its own words are above")
    return dict(json.loads(line))
