"""Which checkpoints are to be compressed or decompressed: decided from a listing alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ckptstore import keys
from ckptstore.errors import CheckpointNotFound
from ckptstore.experiment import CheckpointRecord, Experiment
from ckptstore.keys import Kind
from ckptstore.retention.ordering import Headers, from_oldest
from ckptstore.store import ObjectInfo

__all__ = ["Forms", "check_steps", "forms_of", "newest_steps"]


@dataclass(frozen=True, slots=True)
class Forms:
    """The objects of one checkpoint; at least one of them is there.

    Attributes:
        exp_hash: the experiment.
        step: of the checkpoint.
        plain: its `.pt`.
        packed: its `.pt.zst`; beside a `.pt` it was left by work that was cut short, or belongs to an earlier save.
    """

    exp_hash: str
    step: int
    plain: ObjectInfo | None
    packed: ObjectInfo | None

    @property
    def objects(self) -> tuple[ObjectInfo, ...]:
        """What there is."""
        return tuple(info for info in (self.plain, self.packed) if info is not None)

    @property
    def size_bytes(self) -> int:
        """What they take in the store."""
        return sum(info.size_bytes for info in self.objects)

    @property
    def key(self) -> str:
        """Of the object that is the checkpoint: the `.pt` where there is one."""
        return self.objects[0].key


def forms_of(experiment: Experiment) -> list[Forms]:
    """Return the checkpoints of an experiment by step. One listing."""
    plain: dict[int, ObjectInfo] = {}
    packed: dict[int, ObjectInfo] = {}
    for info in experiment.store.list(keys.model_prefix(experiment.exp_hash)):
        parsed = keys.parse_key(info.key)
        if parsed is None or parsed.step is None:
            continue
        (plain if parsed.kind is Kind.CHECKPOINT else packed)[parsed.step] = info
    steps = sorted({*plain, *packed})
    return [Forms(experiment.exp_hash, step, plain.get(step), packed.get(step)) for step in steps]


def newest_steps(checkpoints: Sequence[Forms], count: int, headers: Headers) -> set[int]:
    """Return the steps of the newest: so many of the highest steps, and so many of those that a resume tries first.

    They differ after a run that went back to an earlier step. Nothing is read where all others are compressed.
    """
    highest = {forms.step for forms in checkpoints[-count:]}
    if all(forms.plain is None or forms.step in highest for forms in checkpoints):
        return highest
    records = [CheckpointRecord(forms.step, forms.objects[0]) for forms in checkpoints]
    return highest | {record.step for record in from_oldest(records, headers)[-count:]}


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
