"""What changed among the active samples: how many, and which, where both experiments recorded them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from ckptstore.backups import load_uids
from ckptstore.experiment import Experiment
from ckptstore.hashing.uids import UID
from ckptstore.provenance import Provenance

__all__ = ["SampleChange", "sample_change"]


@dataclass(frozen=True, slots=True)
class SampleChange:
    """Active samples of two experiments that differ.

    Attributes:
        old_count: how many there were; None where they were never given.
        new_count: how many there are.
        added: UIDs that are new, one used n times more n times; None where an experiment did not record them.
        removed: UIDs that are gone.
    """

    old_count: int | None
    new_count: int | None
    added: tuple[UID, ...] | None = None
    removed: tuple[UID, ...] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data; bytes as ``{"bytes": hex}``."""
        return {
            "old_count": self.old_count,
            "new_count": self.new_count,
            "added": None if self.added is None else [_plain(uid) for uid in self.added],
            "removed": None if self.removed is None else [_plain(uid) for uid in self.removed],
        }


def sample_change(old: Experiment, new: Experiment, before: Provenance, after: Provenance) -> SampleChange | None:
    """Return what changed; None where the samples are the same. UIDs are read only where they differ."""
    if before.components["data"] == after.components["data"]:
        return None
    counts = before.sample_count, after.sample_count
    gone, come = load_uids(old), load_uids(new)
    if gone is None or come is None:
        return SampleChange(*counts)
    return SampleChange(*counts, added=_ordered(come - gone), removed=_ordered(gone - come))


def _ordered(uids: Counter[UID]) -> tuple[UID, ...]:
    by_kind_and_value = sorted(uids.elements(), key=lambda uid: (type(uid).__name__, uid))
    return tuple(by_kind_and_value)


def _plain(uid: UID) -> Any:
    return {"bytes": uid.hex()} if isinstance(uid, bytes) else uid
