"""What a save beside the training loop returns at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field

from ckptstore.store import StorePath

LOOK_EVERY_S = 0.5
"""How often those who wait for a save look whether it moves."""


@dataclass(frozen=True, slots=True)
class SaveHandle:
    """A save on its way.

    Attributes:
        step: of the checkpoint.
        path: where it will lie.
        stall_seconds: how long the call that started it took: what training waited.
    """

    step: int
    path: StorePath
    stall_seconds: float
    _outcome: Future[None] = field(repr=False)
    _give_up_if_stalled: Callable[[], None] = field(repr=False)

    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._outcome.done()

    def result(self, timeout_s: float | None = None) -> StorePath:
        """Wait until the checkpoint is durable and return where it lies.

        Raises:
            TimeoutError: it is not, after so many seconds; the save goes on.
            SaveReplaced: a newer save took its place before it began.
            SaveStalled: it moved no byte for the deadline, and was given up.
            StoreError: what the store said.
        """
        ends = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while not wait([self._outcome], max(0, min(ends - time.monotonic(), LOOK_EVERY_S))).done:
            if time.monotonic() >= ends:
                raise TimeoutError(f"the save of step {self.step} is not durable after {timeout_s} s; it goes on")
            self._give_up_if_stalled()
        self._outcome.result()
        return self.path


def finished(step: int, path: StorePath) -> SaveHandle:
    """Return the handle of a save that has nothing to do, as on a rank that does not write."""
    outcome: Future[None] = Future()
    outcome.set_result(None)
    return SaveHandle(step, path, 0.0, outcome, lambda: None)
