"""Decide what a mirror does with one experiment: pure, from what both sides hold and how it compares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum
from functools import lru_cache
from typing import Literal, TypeAlias

from ckptstore import keys
from ckptstore.keys import Kind
from ckptstore.mirroring.comparing import Verdict
from ckptstore.mirroring.listing import Both
from ckptstore.mirroring.report import Conflict
from ckptstore.objects import ObjectInfo

parsed_key = lru_cache(maxsize=16_384)(keys.parse_key)
"""`keys.parse_key`, which is asked several times for each object of an experiment."""

OnConflict: TypeAlias = Literal["stop", "source", "target", "newer"]
"""Who wins where both sides hold other content under one key; "stop" changes nothing and reports all of them."""

CLOCK_DOUBT = timedelta(minutes=1)
"""Two stores have two clocks: of times closer than this neither is newer."""


class Stage(IntEnum):
    """The order in which an experiment is built up, so that nothing points to what is not there yet."""

    COMPANIONS = 0
    DIGESTS = 1
    RECORD = 2
    CHECKPOINTS = 3


_STAGES = {
    Kind.BACKUP_DIGEST: Stage.DIGESTS,
    Kind.PROVENANCE: Stage.RECORD,
    Kind.CHECKPOINT: Stage.CHECKPOINTS,
    Kind.COMPRESSED_CHECKPOINT: Stage.CHECKPOINTS,
}


@dataclass(frozen=True, slots=True)
class Copy:
    """One object to be copied.

    Attributes:
        source: what is copied.
        replaced: what it replaces in the target; None where it holds nothing.
        first_remove: keys of the target that must go before.
    """

    source: ObjectInfo
    replaced: ObjectInfo | None = None
    first_remove: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The key on both sides."""
        return self.source.key


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done with one experiment, or with the user's own files.

    Attributes:
        prefix: its folder.
        copies: by stage, in order.
        removals: objects of the target that the source lacks, in the order in which they may go.
        conflicts: undecided ones.
        kept: those decided for the target.
        foreign: keys that are no part of the layout.
        same_objects: how many are equal.
        same_bytes: how much that is.
    """

    prefix: str
    copies: Mapping[Stage, tuple[Copy, ...]] = field(default_factory=dict)
    removals: tuple[ObjectInfo, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    kept: tuple[Conflict, ...] = ()
    foreign: tuple[str, ...] = ()
    same_objects: int = 0
    same_bytes: int = 0

    @property
    def exp_hash(self) -> str | None:
        """The experiment; None for what is the user's own."""
        return keys.hash_of_prefix(self.prefix)

    def stages(self) -> list[Sequence[Copy | ObjectInfo]]:
        """Return what can be done side by side: copies in stages, then removals in stages."""
        stages: list[Sequence[Copy | ObjectInfo]] = [self.copies.get(stage, ()) for stage in Stage]
        stages += [tuple(info for info in self.removals if stage_of(info.key) is stage) for stage in reversed(Stage)]
        return [tasks for tasks in stages if tasks]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What of an experiment is mirrored, and how.

    Attributes:
        steps: only these checkpoints; None is all.
        delete: whether what the source lacks goes from the target.
        on_conflict: who wins.
        kinds: only these; None is all.
    """

    steps: frozenset[int] | None = None
    delete: bool = False
    on_conflict: OnConflict = "stop"
    kinds: frozenset[Kind] | None = None


def chosen(both: Both, choice: Choice) -> list[ObjectInfo]:
    """Return the objects of the source that are to be in the target, in the order in which they go."""
    objects = [info for info in both.source.values() if _is_chosen(info, choice)]
    return sorted(objects, key=lambda info: (stage_of(info.key), step_of(info.key) or 0, info.key))


def _is_chosen(info: ObjectInfo, choice: Choice) -> bool:
    parsed = parsed_key(info.key)
    if parsed is None:
        return choice.kinds is None
    if parsed.step is not None and choice.steps is not None and parsed.step not in choice.steps:
        return False
    return choice.kinds is None or parsed.kind in choice.kinds


def stage_of(key: str) -> Stage:
    """Return when an object goes."""
    parsed = parsed_key(key)
    return Stage.COMPANIONS if parsed is None else _STAGES.get(parsed.kind, Stage.COMPANIONS)


def step_of(key: str) -> int | None:
    """Return the step of a checkpoint, in either form; None for anything else."""
    parsed = parsed_key(key)
    return None if parsed is None else parsed.step


def plan(both: Both, choice: Choice, verdict: Callable[[str], Verdict | None]) -> Plan:
    """Return what is to be done.

    Args:
        both: what both sides hold.
        choice: what was asked.
        verdict: how the two objects under a key compare, None to leave them alone; asked only where both sides
            have it.
    """
    drafted = _Drafted(both, choice, verdict)
    for info in chosen(both, choice):
        drafted.add(info)
    return drafted.plan()


class _Drafted:
    """A plan in the making."""

    def __init__(self, both: Both, choice: Choice, verdict: Callable[[str], Verdict | None]) -> None:
        self._both, self._choice, self._verdict = both, choice, verdict
        self._copies: dict[str, Copy] = {}
        self._conflicts: list[Conflict] = []
        self._kept: dict[str, Conflict] = {}
        self._same: list[ObjectInfo] = []

    def add(self, info: ObjectInfo) -> None:
        """Decide on one object of the source; a backup comes before its digest."""
        there = self._both.target.get(info.key)
        backup = self._copies.get(info.key.removesuffix(".sha256"))
        if there is None or (backup is not None and info.key in backup.first_remove):
            self._copies[info.key] = Copy(info)
        elif (verdict := self._verdict(info.key)) is None:
            return
        elif verdict is Verdict.SAME:
            self._same.append(info)
        elif verdict is Verdict.GROWN:
            self._replace(info, there)
        else:
            self._settle(info, there)

    def _settle(self, info: ObjectInfo, there: ObjectInfo) -> None:
        conflict = Conflict(info.key, info.size_bytes, there.size_bytes)
        winner = self._choice.on_conflict
        if info.key.removesuffix(".sha256") in self._kept:
            winner = "target"  # a digest goes with its file
        if winner == "newer":
            winner, conflict = _newer(info, there, conflict)
        if winner == "source":
            self._replace(info, there)
        elif winner == "target":
            self._kept[info.key] = conflict
        else:
            self._conflicts.append(conflict)

    def _replace(self, info: ObjectInfo, there: ObjectInfo) -> None:
        parsed = parsed_key(info.key)
        digest = keys.backup_digest_key(info.key)
        is_backup = parsed is not None and parsed.kind is Kind.BACKUP
        # a file never stands beside another file's checksum
        first = (digest,) if is_backup and digest in self._both.target else ()
        self._copies[info.key] = Copy(info, there, first)

    def plan(self) -> Plan:
        """Return the plan."""
        stages = {
            stage: tuple(copy for key, copy in self._copies.items() if stage_of(key) is stage) for stage in Stage
        }
        return Plan(
            self._both.prefix,
            {stage: copies for stage, copies in stages.items() if copies},
            tuple(self._removals()) if self._choice.delete and self._both.exp_hash else (),
            tuple(self._conflicts),
            tuple(self._kept.values()),
            self._both.foreign,
            len(self._same),
            sum(info.size_bytes for info in self._same),
        )

    def _removals(self) -> Iterator[ObjectInfo]:
        """Yield what the target has and the source lacks: checkpoints first, a digest before its file."""
        lacking = [info for key, info in self._both.target.items() if key not in self._both.source]
        waited_for = self._steps_in_other_form()
        for info in sorted(lacking, key=lambda info: (-stage_of(info.key), info.key)):
            if step_of(info.key) not in waited_for:
                yield info

    def _steps_in_other_form(self) -> set[int | None]:
        """Return the steps of the source that will not be in the target: whatever form that has stays."""
        arriving = {step_of(key) for key in (*self._copies, *(info.key for info in self._same))}
        return {step for key in self._both.source if (step := step_of(key)) is not None and step not in arriving}


def _newer(info: ObjectInfo, there: ObjectInfo, conflict: Conflict) -> tuple[OnConflict, Conflict]:
    if abs(info.modified - there.modified) < CLOCK_DOUBT:
        doubt = f"both were written within {CLOCK_DOUBT.seconds} s, so neither is newer"
        return "stop", Conflict(conflict.key, conflict.source_bytes, conflict.target_bytes, doubt)
    return ("source" if info.modified > there.modified else "target"), conflict
