"""Checkpoints from the oldest to the newest, as resuming ranks them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeAlias

from ckptstore.checkpoints import CheckpointRecord
from ckptstore.records import Header

__all__ = ["Headers", "from_oldest", "saved_after_highest"]

Headers: TypeAlias = Callable[[Sequence[CheckpointRecord]], list[Header]]
"""Gives the header of each of some checkpoints."""


def from_oldest(records: Sequence[CheckpointRecord], headers: Headers) -> list[CheckpointRecord]:
    """Return them by ascending step, and after those the ones that a run saved after the highest step was saved."""
    ascending = sorted(records, key=lambda record: record.step)
    newer = saved_after_highest(ascending, lambda some: [header.saved_at for header in headers(some)])
    return [*(record for record in ascending if record not in newer), *newer]


def saved_after_highest(
    ascending: Sequence[CheckpointRecord],
    saved_at: Callable[[Sequence[CheckpointRecord]], Sequence[datetime | None]],
) -> list[CheckpointRecord]:
    """Return those that a run saved after the highest step was saved, in that order: such a run had gone back.

    A checkpoint's own time decides; the store's time, which is never earlier, only rules out what need not be read:
    usually everything but the highest step, and nothing of a copied experiment, whose times are those of the copy.

    Args:
        ascending: checkpoints of one experiment, by step.
        saved_at: tells the own time of each of some checkpoints, None where it cannot be read.
    """
    descending = ascending[::-1]
    for position, highest in enumerate(descending):
        known = saved_at([highest])[0]
        if known is None:
            continue
        since = min(known, highest.modified)
        suspects = [record for record in descending[position + 1 :] if record.modified >= since]
        later = [
            (when, record.step, record)
            for when, record in zip(saved_at(suspects), suspects, strict=True)
            if when is not None and when > known
        ]
        return [record for _, _, record in sorted(later, key=lambda entry: entry[:2])]
    return []
