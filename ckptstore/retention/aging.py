"""Decide which experiments are old enough to go; nothing is deleted here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ckptstore import keys
from ckptstore.keys import Kind
from ckptstore.store import ObjectInfo

__all__ = ["ExperimentVerdict", "HeldExperiment", "Limits", "deletion_order", "judge"]

_AFTER_CHECKPOINTS = (
    Kind.ARCHITECTURE,
    Kind.ARCHITECTURE_TEXT,
    Kind.BACKUP_DIGEST,  # before its backup: a file must never stand beside another file's checksum
    Kind.BACKUP,
    Kind.CONFIG,
    Kind.PROVENANCE,
)


@dataclass(frozen=True, slots=True)
class HeldExperiment:
    """An experiment as it lies in a store.

    Attributes:
        exp_hash: its hash.
        objects: those of them that are ours; at least one.
        parent: the experiment that it came out of, as far as its record says.
    """

    exp_hash: str
    objects: tuple[ObjectInfo, ...]
    parent: str | None

    @property
    def modified(self) -> datetime:
        """When it was written to last."""
        return max(info.modified for info in self.objects)


@dataclass(frozen=True, slots=True)
class Limits:
    """What makes an experiment old: all limits that are given together.

    Attributes:
        keep_latest: the ones that were written to last are not old.
        older_than: nor are those that were written to within this time.
    """

    keep_latest: int | None = None
    older_than: timedelta | None = None

    def __post_init__(self) -> None:
        if self.keep_latest is None and self.older_than is None:
            raise ValueError("which experiments are old? give keep_latest, older_than or both")
        if self.keep_latest is not None and (type(self.keep_latest) is not int or self.keep_latest < 0):
            raise ValueError(f"keep_latest is {self.keep_latest!r}, not an int from 0 upwards")
        if self.older_than is not None and not (
            isinstance(self.older_than, timedelta) and self.older_than >= timedelta(0)
        ):
            raise ValueError(f"older_than is {self.older_than!r}, not a datetime.timedelta from 0 upwards")

    def spares(self, rank: int, age: timedelta) -> str:
        """Return why an experiment is not old, "" where it is.

        Args:
            rank: 0 for the one that was written to last, and so on.
            age: since its last write.
        """
        if self.keep_latest is not None and rank < self.keep_latest:
            return f"one of the latest {self.keep_latest}"
        if self.older_than is not None and age <= self.older_than:
            return f"not older than {self.older_than}"
        return ""


@dataclass(frozen=True, slots=True)
class ExperimentVerdict:
    """What becomes of one experiment.

    Attributes:
        exp_hash: the experiment.
        stays: whether it does.
        why: each reason to stay; of one that goes, that it is old.
        objects: how many it has.
        size_bytes: their size.
        modified: when the last of them was written, by the store's clock.
        parent: the experiment that it came out of.
    """

    exp_hash: str
    stays: bool
    why: str
    objects: int
    size_bytes: int
    modified: datetime
    parent: str | None


def judge(
    held: Iterable[HeldExperiment],
    limits: Limits,
    *,
    now: datetime,
    spared: Mapping[str, Sequence[str]],
    parents: bool,
) -> list[ExperimentVerdict]:
    """Return the verdict on each experiment, from the one that was written to last to the oldest.

    Args:
        held: all experiments of a store.
        limits: what makes one old.
        now: the time by the store's clock.
        spared: reasons to stay that lie outside, by hash.
        parents: whether the parent of one that stays may go.
    """
    newest_first = sorted(held, key=lambda one: (one.modified, one.exp_hash), reverse=True)
    reasons = {one.exp_hash: list(spared.get(one.exp_hash, ())) for one in newest_first}
    for rank, one in enumerate(newest_first):
        if why := limits.spares(rank, now - one.modified):
            reasons[one.exp_hash].append(why)
    if not parents:
        _spare_parents(newest_first, reasons)
    return [_verdict(one, reasons[one.exp_hash]) for one in newest_first]


def deletion_order(objects: Iterable[ObjectInfo]) -> list[ObjectInfo]:
    """Return the objects of an experiment in the order in which they go: checkpoints by step, the record last."""
    return sorted(objects, key=_rank)


def _rank(info: ObjectInfo) -> tuple[int, int, str]:
    parsed = keys.parse_key(info.key)
    if parsed is None or parsed.step is not None:
        return 0, parsed.step or 0 if parsed else 0, info.key
    return 1 + _AFTER_CHECKPOINTS.index(parsed.kind), 0, info.key


def _spare_parents(held: Sequence[HeldExperiment], reasons: dict[str, list[str]]) -> None:
    parents = {one.exp_hash: one.parent for one in held}
    for one in held:
        child, parent = one.exp_hash, one.parent
        while reasons[child] and parent in reasons and not reasons[parent]:
            reasons[parent].append(f"the parent of {child}, which stays")
            child, parent = parent, parents[parent]


def _verdict(one: HeldExperiment, reasons: Sequence[str]) -> ExperimentVerdict:
    return ExperimentVerdict(
        exp_hash=one.exp_hash,
        stays=bool(reasons),
        why="; ".join(reasons) or "old",
        objects=len(one.objects),
        size_bytes=sum(info.size_bytes for info in one.objects),
        modified=one.modified,
        parent=one.parent,
    )
