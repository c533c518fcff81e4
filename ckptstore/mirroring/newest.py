"""Which checkpoints of an experiment are the newest ones."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from ckptstore.mirroring.planning import step_of
from ckptstore.objects import ObjectInfo
from ckptstore.store import Store


def newest_steps(store: Store, objects: Mapping[str, ObjectInfo], latest: int) -> frozenset[int]:
    """Return the steps of the newest checkpoints, as resuming ranks them: a run that had gone back comes last.

    One suffix read, and more where the times in the store do not rule out such a run.

    Args:
        store: where they are.
        objects: those of one experiment, by key.
        latest: how many.
    """
    found: dict[int, ObjectInfo] = {}
    for key, info in sorted(objects.items(), reverse=True):  # a `.pt` after its `.pt.zst`
        if (step := step_of(key)) is not None:
            found[step] = info
    if len(found) <= latest:
        return frozenset(found)
    # torch comes with these, which no other mirror needs
    from ckptstore.checkpoints import CheckpointRecord
    from ckptstore.ordering import from_oldest
    from ckptstore.records import RecordCache

    records = [CheckpointRecord(step, info) for step, info in found.items()]
    ordered = from_oldest(records, partial(RecordCache().headers, store))
    return frozenset(record.step for record in ordered[-latest:])
