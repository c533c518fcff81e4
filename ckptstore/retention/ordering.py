"""Checkpoints from the oldest to the newest, as resuming ranks them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeAlias

from ckptstore.experiment import CheckpointRecord
from ckptstore.records import Header

__all__ = ["Headers", "from_oldest"]

Headers: TypeAlias = Callable[[Sequence[CheckpointRecord]], list[Header]]
"""Gives the header of each of some checkpoints."""


def from_oldest(records: Sequence[CheckpointRecord], headers: Headers) -> list[CheckpointRecord]:
    """Return them by ascending step, and after those the ones that a run saved after the highest step was saved.

    Such a run had gone back. A checkpoint's own time decides; the store's time, which is never earlier, only rules
    out what need not be read: usually everything but the highest step.
    """
    ascending = sorted(records, key=lambda record: record.step)
    newer = _saved_after_highest(ascending[::-1], headers)
    return [*(record for record in ascending if record not in newer), *newer]


def _saved_after_highest(descending: Sequence[CheckpointRecord], headers: Headers) -> list[CheckpointRecord]:
    for position, highest in enumerate(descending):
        saved_at = headers([highest])[0].saved_at
        if saved_at is None:
            continue
        since = min(saved_at, highest.modified)
        suspects = [record for record in descending[position + 1 :] if record.modified >= since]
        times = [header.saved_at for header in headers(suspects)]
        later: list[tuple[datetime, int, CheckpointRecord]] = [
            (when, record.step, record)
            for when, record in zip(times, suspects, strict=True)
            if when is not None and when > saved_at
        ]
        return [record for _, _, record in sorted(later, key=lambda entry: entry[:2])]
    return []
