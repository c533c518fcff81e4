"""The checkpoints in a listing: which there are, and in which forms each is stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from ckptstore import keys
from ckptstore.keys import Kind
from ckptstore.objects import ObjectInfo

__all__ = ["CHECKPOINT_FORMAT", "CheckpointRecord", "Forms", "checkpoint_records", "forms_in"]

CHECKPOINT_FORMAT = 1
"""What a checkpoint says under "format"; a higher number is for a later ckptstore."""


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """A checkpoint as a listing shows it.

    Attributes:
        step: the training step.
        info: key, size in bytes, time and version of the object: the `.pt`, or the `.pt.zst` in its place.
    """

    step: int
    info: ObjectInfo

    @property
    def compressed(self) -> bool:
        """Whether it is stored as a `.pt.zst`."""
        return self.info.key.endswith(keys.COMPRESSED)

    @property
    def modified(self) -> datetime:
        """When it was written, by the store's clock."""
        return self.info.modified


@dataclass(frozen=True, slots=True)
class Forms:
    """All objects of one checkpoint; at least one of them is there.

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
        """What there is, the one that is read first."""
        return tuple(info for info in (self.plain, self.packed) if info is not None)

    @property
    def record(self) -> CheckpointRecord:
        """The one that is read: the `.pt` where there is one."""
        return CheckpointRecord(self.step, self.objects[0])

    @property
    def size_bytes(self) -> int:
        """What they take in the store."""
        return sum(info.size_bytes for info in self.objects)


def forms_in(objects: Iterable[ObjectInfo], exp_hash: str) -> list[Forms]:
    """Return the checkpoints of an experiment in a listing, in numeric order."""
    plain: dict[int, ObjectInfo] = {}
    packed: dict[int, ObjectInfo] = {}
    for info in objects:
        parsed = keys.parse_key(info.key)
        if parsed is None or parsed.exp_hash != exp_hash or parsed.step is None:
            continue
        (plain if parsed.kind is Kind.CHECKPOINT else packed)[parsed.step] = info
    return [Forms(exp_hash, step, plain.get(step), packed.get(step)) for step in sorted({*plain, *packed})]


def checkpoint_records(objects: Iterable[ObjectInfo], exp_hash: str) -> list[CheckpointRecord]:
    """Return the checkpoints of an experiment in a listing, in numeric order; of one in both forms the `.pt`."""
    return [forms.record for forms in forms_in(objects, exp_hash)]
