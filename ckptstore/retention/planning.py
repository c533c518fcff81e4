"""Decide what of an experiment goes and what stays; nothing is deleted here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ckptstore.checkpoints import CheckpointRecord, Forms
from ckptstore.metrics import numbers_in
from ckptstore.ordering import Headers, from_oldest
from ckptstore.records import Header
from ckptstore.retention.policies import Candidate, Policy

__all__ = ["Guard", "Verdict", "none_has", "plan_experiment"]


@dataclass(frozen=True, slots=True)
class Guard:
    """What stays whatever a policy says, besides the newest sound checkpoint.

    Attributes:
        resumed: steps that this process went on from.
        own: version by key of the checkpoints that this process saved; the next two limits do not hold for them.
        min_age: nothing younger goes.
        newest: nor any of the newest so many, whether by step or by time.
    """

    resumed: frozenset[int] = frozenset()
    own: Mapping[str, str] = field(default_factory=dict)
    min_age: timedelta = timedelta(hours=24)
    newest: int = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one checkpoint.

    Attributes:
        exp_hash: its experiment.
        step: its step.
        stays: whether it does.
        why: each reason to stay; of one that goes, that nothing keeps it.
        size_bytes: its size in the store.
        modified: when it was written, by the store's clock: that of a copy, or of compressing it, where it was.
        saved_at: when it was saved, by the clock of the machine that did; None where its header was not read.
        keys: its objects, the one that is read last: the other form must not take its place.
    """

    exp_hash: str
    step: int
    stays: bool
    why: str
    size_bytes: int
    modified: datetime
    saved_at: datetime | None
    keys: tuple[str, ...]


def plan_experiment(
    held: Sequence[Forms],
    keep: Policy,
    *,
    guard: Guard,
    now: datetime,
    headers: Headers,
    soundness: Headers,
) -> list[Verdict]:
    """Return the verdict on each checkpoint of one experiment, from the oldest to the newest.

    Args:
        held: its checkpoints.
        keep: what is wanted.
        guard: what stays whatever is wanted.
        now: the time by the store's clock.
        headers: tells what checkpoints say of themselves.
        soundness: the same, as reliable as it must be before something is deleted.
    """
    by_step = {forms.step: forms for forms in held}
    ordered = from_oldest([forms.record for forms in held], headers)
    known = headers(ordered) if keep.metrics or keep.asks_age else []
    candidates = _candidates(ordered, known)
    reasons = [keep.keeps(candidates, now), _unknowable(ordered, known, keep), _guarded(ordered, guard, now)]
    reasons += [_unranked(candidates, keep), _newest_sound(ordered, soundness)]
    saved = {candidate.step: candidate.saved_at for candidate in candidates}
    return [_verdict(by_step[record.step], reasons, saved[record.step]) for record in ordered]


def none_has(metric: str) -> str:
    """Return the reason why everything stays where a policy asks for what no checkpoint has as a finite number."""
    return f"no checkpoint of this experiment has the metric {metric!r}"


def _candidates(ordered: Sequence[CheckpointRecord], known: Sequence[Header]) -> list[Candidate]:
    said = [(header.metadata, header.saved_at) for header in known] or [({}, None) for _ in ordered]
    return [
        Candidate(record.step, record.modified, metadata, saved_at)
        for record, (metadata, saved_at) in zip(ordered, said, strict=True)
    ]


def _unknowable(ordered: Sequence[CheckpointRecord], known: Sequence[Header], keep: Policy) -> dict[int, str]:
    return dict(_unknowables(zip(ordered, known, strict=False), keep)) if keep.metrics else {}


def _unknowables(said: Iterable[tuple[CheckpointRecord, Header]], keep: Policy) -> Iterator[tuple[int, str]]:
    reasons = {
        "newer": "written by a newer version of ckptstore, its metrics cannot be read",
        "foreign": "truncated, or written by another tool: its metrics cannot be read",
        "gone": "replaced while it was looked at",
    }
    for record, header in said:
        if header.condition in reasons:
            yield record.step, reasons[header.condition]
        elif not header.complete and keep.metrics.difference(numbers_in(header.metadata)):
            yield record.step, "its metadata is too long to look for the metric in"


def _unranked(candidates: Sequence[Candidate], keep: Policy) -> dict[int, str]:
    """Return all of them where none has a metric that they are to be judged by."""
    missing = keep.metrics.difference(*(numbers_in(candidate.metadata) for candidate in candidates))
    return {candidate.step: none_has(name) for name in sorted(missing)[:1] for candidate in candidates}


def _guarded(ordered: Sequence[CheckpointRecord], guard: Guard, now: datetime) -> dict[int, str]:
    return dict(_guards(ordered, guard, now))


def _guards(ordered: Sequence[CheckpointRecord], guard: Guard, now: datetime) -> Iterator[tuple[int, str]]:
    newest = {record.step for record in _newest(ordered, guard.newest)}
    for record in ordered:
        if record.step in guard.resumed:
            yield record.step, "this process resumed from it"
        elif _is_own(record, guard):
            continue
        elif now - record.modified < guard.min_age:
            yield record.step, f"written within {_hours(guard.min_age)}"
        elif record.step in newest:
            yield record.step, f"one of the newest {guard.newest}"


def _is_own(record: CheckpointRecord, guard: Guard) -> bool:
    return guard.own.get(record.info.key) == record.info.version


def _newest(ordered: Sequence[CheckpointRecord], count: int) -> list[CheckpointRecord]:
    if not count:
        return []
    by_time = sorted(ordered, key=lambda record: (record.modified, record.step))
    by_step = sorted(ordered, key=lambda record: record.step)
    return [*ordered[-count:], *by_time[-count:], *by_step[-count:]]


def _newest_sound(ordered: Sequence[CheckpointRecord], soundness: Headers) -> dict[int, str]:
    """Return what loading and resuming would take, and what might be: newer ones that cannot be judged."""
    found: dict[int, str] = {}
    for newest_first in (ordered[::-1], sorted(ordered, key=lambda record: -record.step)):
        for record in newest_first:
            condition = soundness([record])[0].condition
            if condition == "sound":
                found[record.step] = "the newest sound one"
                break
            if condition != "damaged":
                found.setdefault(record.step, "newer than the newest sound one, and perhaps sound")
        else:
            return {record.step: "none is known to be sound" for record in ordered}
    return found


def _verdict(forms: Forms, reasons: Iterable[Mapping[int, str]], saved_at: datetime | None) -> Verdict:
    said = list(dict.fromkeys(why[forms.step] for why in reasons if forms.step in why))
    return Verdict(
        exp_hash=forms.exp_hash,
        step=forms.step,
        stays=bool(said),
        why="; ".join(said) or "no policy keeps it",
        size_bytes=forms.size_bytes,
        modified=forms.record.modified,
        saved_at=saved_at,
        keys=tuple(info.key for info in reversed(forms.objects)),
    )


def _hours(age: timedelta) -> str:
    return f"{age.total_seconds() / 3600:g} h"
