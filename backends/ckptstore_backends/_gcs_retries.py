"""How long a request is tried."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass

from ckptstore.errors import StoreUnavailable

_STALL_S = 60.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential pauses with jitter, until a deadline that begins with each request.

    Attributes:
        deadline_s: after this the last failure is raised.
        first_s: the longest that the first pause may be; each further one may be twice as long.
        longest_s: no pause is longer.
    """

    deadline_s: float
    first_s: float = 0.2
    longest_s: float = 15.0

    @property
    def stall_s(self) -> float:
        """An exchange in which nothing moves for this long has failed."""
        return min(_STALL_S, self.deadline_s)


class Patience:
    """What is left of it for one request."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._end = time.monotonic() + policy.deadline_s
        self._longest = policy.first_s

    async def wait(self, failure: StoreUnavailable) -> None:
        """Pause before the next attempt, or raise the failure."""
        pause = random.uniform(self._longest / 2, self._longest)  # noqa: S311  # spreads the callers
        if time.monotonic() + pause > self._end:
            raise failure
        self._longest = min(2 * self._longest, self._policy.longest_s)
        await asyncio.sleep(pause)
