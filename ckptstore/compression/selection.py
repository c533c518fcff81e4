"""Which checkpoints are to be compressed or decompressed: decided from a listing alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ckptstore import keys
from ckptstore.checkpoints import Forms
from ckptstore.errors import CheckpointNotFound
from ckptstore.ordering import Headers, from_oldest

__all__ = ["check_steps", "newest_steps"]


def newest_steps(checkpoints: Sequence[Forms], count: int, headers: Headers) -> set[int]:
    """Return the steps of the newest: so many of the highest steps, and so many of those that a resume tries first.

    They differ after a run that went back to an earlier step. Nothing is read where all others are compressed.
    """
    highest = {forms.step for forms in checkpoints[-count:]}
    if all(forms.plain is None or forms.step in highest for forms in checkpoints):
        return highest
    ordered = from_oldest([forms.record for forms in checkpoints], headers)
    return highest | {record.step for record in ordered[-count:]}


def check_steps(checkpoints: Iterable[Sequence[Forms]], steps: Iterable[int] | None) -> set[int] | None:
    """Return the steps that were named, None where none were.

    Raises:
        InvalidStep: one is no step.
        CheckpointNotFound: no experiment has one of them; nothing was done.
    """
    if steps is None:
        return None
    wanted = set(map(keys.check_step, steps))
    there = {forms.step for found in checkpoints for forms in found}
    if missing := sorted(wanted - there):
        raise CheckpointNotFound(
            f"no checkpoint of step {', '.join(map(str, missing))} in what was named; nothing was done"
        )
    return wanted
