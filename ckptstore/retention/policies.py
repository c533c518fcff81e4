"""Which checkpoints to keep: frozen values, each with one pure method, joined by ``|``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from ckptstore.keys import check_step
from ckptstore.metrics import numbers_in

__all__ = ["Best", "Candidate", "EverySteps", "Latest", "Pinned", "Policy", "Union", "WithinAge"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a policy is told of a checkpoint.

    Attributes:
        step: the training step.
        modified: when it was written, by the store's clock.
        metadata: what was saved with it; empty where no policy asks for a metric.
        saved_at: when it was saved, by the clock of the machine that did; None where no policy asks, or it does not
            say.
    """

    step: int
    modified: datetime
    metadata: Mapping[str, Any] = field(default_factory=dict)
    saved_at: datetime | None = None


class Policy(ABC):
    """Says which checkpoints of one experiment stay. It knows no store, no clock, and deletes nothing."""

    __slots__ = ()

    @abstractmethod
    def keeps(self, candidates: Sequence[Candidate], now: datetime) -> dict[int, str]:
        """Return the steps that stay, each with the reason.

        Args:
            candidates: from the oldest to the newest, as resuming would rank them.
            now: the time by the store's clock.
        """

    @property
    def metrics(self) -> frozenset[str]:
        """The metrics that it needs to know."""
        return frozenset()

    @property
    def asks_age(self) -> bool:
        """Whether it needs to know when each was saved."""
        return False

    def __or__(self, other: Policy) -> Union:
        """Keep what either keeps."""
        if not isinstance(other, Policy):
            return NotImplemented
        return Union((*_parts(self), *_parts(other)))


@dataclass(frozen=True, slots=True)
class Latest(Policy):
    """Keep the newest ones. After a run that went back these are its own, although others have higher steps.

    Attributes:
        count: how many.
    """

    count: int

    def __post_init__(self) -> None:
        _check_count(self.count, "Latest")

    def keeps(self, candidates: Sequence[Candidate], now: datetime) -> dict[int, str]:  # noqa: ARG002
        """Return the last ones of the sequence."""
        reason = f"one of the latest {self.count}" if self.count > 1 else "the latest"
        return {candidate.step: reason for candidate in candidates[-self.count :]}


@dataclass(frozen=True, slots=True)
class Best(Policy):
    """Keep those with the best value of a metric.

    A checkpoint without the metric, or where it is no finite number, is never among them. Of two equally good ones
    the higher step is the better.

    Attributes:
        count: how many.
        metric: its name in the checkpoints' metadata; ``"eval.loss"`` is ``metadata["eval"]["loss"]``.
        mode: "min" or "max".
    """

    count: int
    metric: str
    mode: Literal["min", "max"]

    def __post_init__(self) -> None:
        _check_count(self.count, "Best")
        if self.mode not in ("min", "max"):
            raise ValueError(f"the mode of Best is 'min' or 'max', not {self.mode!r}")
        if not isinstance(self.metric, str) or not self.metric:
            raise TypeError(f"the metric of Best is its name in the metadata, not {self.metric!r}")

    @property
    def metrics(self) -> frozenset[str]:
        """The one it ranks by."""
        return frozenset({self.metric})

    def keeps(self, candidates: Sequence[Candidate], now: datetime) -> dict[int, str]:  # noqa: ARG002
        """Return the first ones of the ranking."""
        values = {candidate.step: numbers_in(candidate.metadata).get(self.metric) for candidate in candidates}
        sign = 1 if self.mode == "min" else -1
        ranked = sorted((sign * value, -step) for step, value in values.items() if value is not None)
        which = "lowest" if self.mode == "min" else "highest"
        return {-step: f"{which} {self.metric}: {sign * value:.6g}" for value, step in ranked[: self.count]}


@dataclass(frozen=True, slots=True)
class EverySteps(Policy):
    """Keep every step that is a multiple of a number; 0 is.

    Attributes:
        every: the number.
    """

    every: int

    def __post_init__(self) -> None:
        _check_count(self.every, "EverySteps")

    def keeps(self, candidates: Sequence[Candidate], now: datetime) -> dict[int, str]:  # noqa: ARG002
        """Return the multiples."""
        reason = f"a multiple of {self.every}"
        return {candidate.step: reason for candidate in candidates if candidate.step % self.every == 0}


@dataclass(frozen=True, slots=True)
class WithinAge(Policy):
    """Keep what was saved not longer ago than this.

    The time is the one in the checkpoint, which copying and compressing leave alone; where that cannot be read, the
    store's. The time in the checkpoint is by the clock of the machine that saved it.

    Attributes:
        age: how long.
    """

    age: timedelta

    def __post_init__(self) -> None:
        if not isinstance(self.age, timedelta) or self.age <= timedelta(0):
            raise ValueError(f"WithinAge takes a positive datetime.timedelta, not {self.age!r}")

    @property
    def asks_age(self) -> bool:
        """It does."""
        return True

    def keeps(self, candidates: Sequence[Candidate], now: datetime) -> dict[int, str]:
        """Return the young ones."""
        reason = f"younger than {_age_text(self.age)}"
        return {found.step: reason for found in candidates if now - (found.saved_at or found.modified) <= self.age}


@dataclass(frozen=True, slots=True)
class Pinned(Policy):
    """Keep these steps, whether they are there or not.

    Attributes:
        steps: any iterable of steps, held as a frozenset.
    """

    steps: Iterable[int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", frozenset(map(check_step, self.steps)))

    def keeps(self, candidates: Sequence[Candidate], now: datetime) -> dict[int, str]:  # noqa: ARG002
        """Return those that are there."""
        pinned = frozenset(self.steps)
        return {candidate.step: "pinned" for candidate in candidates if candidate.step in pinned}


@dataclass(frozen=True, slots=True)
class Union(Policy):
    """Keep what any of several policies keeps; ``a | b`` makes one.

    Attributes:
        policies: in the order in which their reasons are told.
    """

    policies: tuple[Policy, ...]

    @property
    def metrics(self) -> frozenset[str]:
        """What any of them needs to know."""
        return frozenset[str]().union(*(policy.metrics for policy in self.policies))

    @property
    def asks_age(self) -> bool:
        """Whether any of them needs to know when each was saved."""
        return any(policy.asks_age for policy in self.policies)

    def keeps(self, candidates: Sequence[Candidate], now: datetime) -> dict[int, str]:
        """Return what any of them keeps, with every reason."""
        reasons: dict[int, list[str]] = {}
        for policy in self.policies:
            for step, reason in policy.keeps(candidates, now).items():
                reasons.setdefault(step, []).append(reason)
        return {step: "; ".join(dict.fromkeys(said)) for step, said in reasons.items()}


def _parts(policy: Policy) -> tuple[Policy, ...]:
    return policy.policies if isinstance(policy, Union) else (policy,)


def _age_text(age: timedelta) -> str:
    seconds = age.total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.4g} {unit}"
    return f"{seconds:g} s"


def _check_count(count: int, name: str) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"{name} takes an int from 1 upwards, not {count!r}")
