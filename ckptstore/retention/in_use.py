"""What this process works on, so that nothing here deletes it: its experiments, and where it resumed from."""

from __future__ import annotations

from collections import defaultdict

from ckptstore.store import Store

__all__ = ["current_experiments", "note_current", "note_resumed", "resumed_steps"]

_CURRENT: defaultdict[str, set[str]] = defaultdict(set)
_RESUMED: defaultdict[tuple[str, str], set[int]] = defaultdict(set)


def note_current(store: Store, exp_hash: str) -> None:
    """Remember that a manager of this process made an experiment its current one."""
    _CURRENT[store.place].add(exp_hash)


def note_resumed(store: Store, exp_hash: str, step: int) -> None:
    """Remember that this process went on from a checkpoint."""
    _RESUMED[store.place, exp_hash].add(step)


def current_experiments(store: Store) -> frozenset[str]:
    """Return the experiments that were current in this process."""
    return frozenset(_CURRENT.get(store.place, ()))


def resumed_steps(store: Store, exp_hash: str) -> frozenset[int]:
    """Return the steps of an experiment that this process went on from."""
    return frozenset(_RESUMED.get((store.place, exp_hash), ()))
