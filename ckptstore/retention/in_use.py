"""What this process works on, so that nothing here deletes it: its experiments, and where it resumed from."""

from __future__ import annotations

import os
import threading
import weakref
from collections import defaultdict

from ckptstore.store import Store

__all__ = ["current_experiments", "forget_current", "note_current", "note_resumed", "resumed_steps"]

_CURRENT: weakref.WeakKeyDictionary[object, tuple[str, str]] = weakref.WeakKeyDictionary()
_RESUMED: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
_CHANGING = threading.Lock()


def _after_fork() -> None:
    global _CHANGING  # noqa: PLW0603  # another thread, which the child does not have, may have held it
    _CHANGING = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def note_current(holder: object, store: Store, exp_hash: str) -> None:
    """Remember the current experiment of a manager, in place of the one before, as long as the manager lives."""
    with _CHANGING:
        _CURRENT[holder] = (store.place, exp_hash)


def forget_current(holder: object) -> None:
    """Drop what a manager worked on: it was closed."""
    with _CHANGING:
        _CURRENT.pop(holder, None)


def note_resumed(store: Store, exp_hash: str, step: int) -> None:
    """Remember that this process went on from a checkpoint."""
    with _CHANGING:
        _RESUMED[store.place, exp_hash].add(step)


def current_experiments(store: Store) -> frozenset[str]:
    """Return the experiments that are current in this process."""
    with _CHANGING:
        return frozenset(exp_hash for place, exp_hash in _CURRENT.values() if place == store.place)


def resumed_steps(store: Store, exp_hash: str) -> frozenset[int]:
    """Return the steps of an experiment that this process went on from."""
    with _CHANGING:
        return frozenset(_RESUMED.get((store.place, exp_hash), ()))
