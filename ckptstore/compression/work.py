"""Do the same to one checkpoint after the other, and say what became of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from ckptstore.checkpoints import Forms
from ckptstore.compression.report import Action, Outcome
from ckptstore.errors import (
    AccessDenied,
    CkptStoreError,
    KeyNotFound,
    ObjectChanged,
    StoreFull,
    StoreNotFound,
    StoreUnavailable,
)
from ckptstore.progress import Progress
from ckptstore.store import ObjectInfo, Store, redact

__all__ = ["Task", "Work", "carried_out", "give_way", "outcome", "take_back"]

_ENDING = (AccessDenied, StoreFull, StoreNotFound, StoreUnavailable)
"""Errors that the next checkpoint would meet as well."""


class Work(Protocol):
    """What is to be done to one checkpoint."""

    @property
    def size_bytes(self) -> int:
        """How many bytes it reads, as its progress tells them."""

    def __call__(self) -> Outcome:
        """Do it."""


@dataclass(frozen=True, slots=True)
class Task:
    """One checkpoint, and what is to be done.

    Attributes:
        forms: its objects.
        work: None: it is kept as it is.
        reason: why it is kept.
    """

    forms: Forms
    work: Work | None = None
    reason: str = ""


def carried_out(tasks: Iterable[Task], *, dry_run: bool, progress: Progress) -> tuple[Outcome, ...]:
    """Do all work, or in a dry run none; return what became of each checkpoint.

    An error with one leaves the others alone, but for one that they would all meet.
    """
    todo = list(tasks)
    if not dry_run:
        busy = [task.work for task in todo if task.work is not None]
        progress.expect(size_bytes=sum(work.size_bytes for work in busy), objects=len(busy))
    return tuple(_outcomes(todo, dry_run=dry_run, progress=progress))


def _outcomes(tasks: Iterable[Task], *, dry_run: bool, progress: Progress) -> Iterator[Outcome]:
    ended = False
    for task in tasks:
        if task.work is None:
            yield outcome(task.forms, "kept", task.reason)
        elif dry_run:
            yield outcome(task.forms, "changed")
        elif ended:
            yield outcome(task.forms, "kept", "not reached after the error before")
        else:
            try:
                progress.describe(f"{task.forms.exp_hash} step {task.forms.step}")
                yield task.work()
                progress.advance(objects=1)
            except CkptStoreError as error:
                ended = isinstance(error, _ENDING)
                yield outcome(task.forms, "failed", str(error))


def outcome(forms: Forms, action: Action, reason: str = "", *, now: ObjectInfo | None = None) -> Outcome:
    """Return what became of a checkpoint.

    Args:
        forms: what there was.
        action: what happened.
        reason: why nothing happened.
        now: the only object that there is now; None where nothing happened.
    """
    key, after = (forms.record.info.key, forms.size_bytes) if now is None else (now.key, now.size_bytes)
    return Outcome(forms.exp_hash, forms.step, key, action, forms.size_bytes, after, reason)


def give_way(store: Store, old: ObjectInfo, new: ObjectInfo) -> None:
    """Delete one form of a checkpoint, now that the other one was verified; no error where it is gone already.

    Raises:
        KeyNotFound: the other one is gone; nothing was deleted.
        ObjectChanged: one of them was replaced; nothing was deleted.
    """
    _check_unchanged(store, new)
    with suppress(KeyNotFound):
        _check_unchanged(store, old)
        store.delete([old.key])


def take_back(store: Store, new: ObjectInfo, old: ObjectInfo) -> None:
    """Delete what was written and is of no use, as long as what it was made from is there."""
    with suppress(KeyNotFound, ObjectChanged):
        _check_unchanged(store, old)
        store.delete([new.key])


def _check_unchanged(store: Store, info: ObjectInfo) -> None:
    """Make sure that an object is the one that was read or written.

    Raises:
        KeyNotFound: it is gone.
        ObjectChanged: it was replaced.
    """
    if store.stat(info.key).version != info.version:
        raise ObjectChanged(f"{info.key} in {redact(store.url)} was replaced meanwhile; nothing was deleted")
