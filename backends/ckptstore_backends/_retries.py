"""How long something is tried: exponential pauses with jitter, until a deadline that progress puts off."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass

from ckptstore.errors import StoreError
from ckptstore_backends._transfer import NOT_OBEYED

STALLS = 3
"""So many silences fit into a deadline: what stalled is tried again."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to give up, and how long to pause before.

    Attributes:
        deadline_s: from the first failure on; after it the last failure is raised.
        attempts: how many there may be; None leaves it to the deadline.
        first_s: the longest that the first pause may be; each further one may be twice as long.
        longest_s: no pause is longer.
    """

    deadline_s: float
    attempts: int | None = None
    first_s: float = 0.2
    longest_s: float = 15.0

    @property
    def silence_s(self) -> float:
        """An exchange in which nothing moves for this long has failed."""
        return self.deadline_s / STALLS


class Patience:
    """What is left of it for one thing that is tried.

    The deadline runs from the first failure on: a long transfer that fails at its end has not been failing all the
    time. An attempt that took as long as that by itself is the last one, unless it was refused in the end: there a
    client has tried again and again in vain.

    Attributes:
        failures: so far, since there was progress.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self.renew()

    def renew(self) -> None:
        """Begin anew: there was progress."""
        self._attempt_began = time.monotonic()
        self._first_failure: float | None = None
        self._longest_s = self._policy.first_s
        self.failures = 0

    def spent(self, failure: StoreError) -> float:
        """Return how long to pause before the next attempt.

        Raises:
            StoreError: the failure, when there shall be none.
        """
        now = time.monotonic()
        in_vain_s = 0.0 if isinstance(failure, NOT_OBEYED) else now - self._attempt_began
        self._first_failure = now if self._first_failure is None else self._first_failure
        self.failures += 1
        pause_s = random.uniform(self._longest_s / 2, self._longest_s)  # noqa: S311  # spreads the callers
        self._longest_s = min(2 * self._longest_s, self._policy.longest_s)
        failing_s = max(in_vain_s, now + pause_s - self._first_failure)
        if self.failures == self._policy.attempts or failing_s > self._policy.deadline_s:
            raise failure
        self._attempt_began = now + pause_s
        return pause_s

    async def wait(self, failure: StoreError) -> None:
        """Pause before the next attempt, or raise the failure."""
        await asyncio.sleep(self.spent(failure))

    def sleep(self, failure: StoreError) -> None:
        """Do as `wait`, outside of an event loop."""
        time.sleep(self.spent(failure))
