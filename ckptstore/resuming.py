"""Which checkpoint a run goes on from, and what to say when there is none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from ckptstore import archive
from ckptstore.checkpoints import CheckpointRecord
from ckptstore.choosing import index_of
from ckptstore.distributed import on_writer
from ckptstore.errors import CkptStoreError, CorruptCheckpoint, KeyNotFound, ObjectChanged
from ckptstore.experiment import Experiment, list_hashes
from ckptstore.loading import Reader, first_sound
from ckptstore.notices import warn
from ckptstore.ordering import saved_after_highest
from ckptstore.provenance import Provenance, changed_components, describe_change
from ckptstore.saving import Training
from ckptstore.store import Store
from ckptstore.timestamps import parsed_timestamp

_READERS = 16
_MOST_RECORDS = 1_000
_MOST_LISTED = 20


@dataclass(frozen=True, slots=True)
class ResumeOrder:
    """The checkpoints of an experiment in the order in which a resume tries them.

    Attributes:
        candidates: the newest run's checkpoints first, then the others by descending step.
        newest: how many of them a run saved after the highest step was saved: a run that had gone back.
        indexes: of those that were looked into, by key.
    """

    candidates: tuple[CheckpointRecord, ...]
    newest: int
    indexes: Mapping[str, archive.Index]

    def passed_over(self, chosen: CheckpointRecord) -> list[int]:
        """Return the steps beyond the chosen one, where they belong to an older run."""
        if chosen not in self.candidates[: self.newest]:
            return []
        return sorted(record.step for record in self.candidates if record.step > chosen.step)


def resume_order(experiment: Experiment) -> ResumeOrder:
    """Return what to try, newest run first.

    Where the highest step is also the last that was written, it costs one listing and one suffix read. After a
    rollback a lower step is newer; see `saved_after_highest`.
    """
    ascending = experiment.checkpoints()
    indexes: dict[str, archive.Index] = {}
    newer = saved_after_highest(ascending, partial(_times, experiment, indexes))
    others = [record for record in ascending if record not in newer]
    return ResumeOrder((*newer[::-1], *others[::-1]), len(newer), indexes)


def _times(
    experiment: Experiment, indexes: dict[str, archive.Index], records: Sequence[CheckpointRecord]
) -> list[datetime | None]:
    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(lambda record: _saved_at(experiment, record, indexes), records))


def _saved_at(experiment: Experiment, record: CheckpointRecord, indexes: dict[str, archive.Index]) -> datetime | None:
    try:
        index = indexes[record.info.key] = index_of(experiment, record)
    except (CorruptCheckpoint, KeyNotFound, ObjectChanged):
        return None  # whoever loads it says what is wrong with it
    return parsed_timestamp(index.state.get("timestamp"))


def find_resumable(
    source: Experiment, read: Reader, *, writer_rank: int
) -> tuple[CheckpointRecord, dict[str, Any]] | None:
    """Return the checkpoint to go on from, and its contents; None where there is no sound one.

    In a torch.distributed job a collective: the writer rank chooses, every rank reads what it chose.
    """
    held: dict[int, dict[str, Any]] = {}

    def choose() -> CheckpointRecord | None:
        order = resume_order(source)
        found = first_sound(order.candidates, read, indexes=order.indexes)
        if found is None:
            return None
        held[found[0].step] = found[1]
        if steps := order.passed_over(found[0]):
            warn(f"the newest run went back: resuming from step {found[0].step}, passing over steps {steps}")
        return found[0]

    chosen = on_writer(choose, writer_rank)
    if chosen is None:
        return None
    return chosen, held.get(chosen.step) or read(chosen, None)


def nothing_to_resume(store: Store, own: Provenance) -> str:
    """Return one line: there is no checkpoint, which experiment is nearest to this one, and what differs."""
    start = f"nothing to resume: experiment {own.exp_hash} has no sound checkpoint"
    ranked = sorted(_others(store, own), key=lambda other: _distance(own, other))
    if not ranked:
        return f"{start}, and there is no other experiment; starting from scratch"
    trained = (other for other in ranked[:_MOST_LISTED] if Experiment(store, other.exp_hash).checkpoints())
    nearest = next(trained, None)
    change = describe_change(nearest or ranked[0], own)
    if nearest is None:
        return f"{start}; nearest is {ranked[0].exp_hash}, which differs in: {change}; it has no checkpoint either"
    return (
        f"{start}; nearest is {nearest.exp_hash}, which differs in: {change}; resume(from_hash=...) goes on from it"
    )


def descends_from(store: Store, exp_hash: str, ancestor: str) -> bool:
    """Whether an experiment came out of another one, by the parents that records name. One read for each step."""
    seen: set[str] = set()
    current: str | None = exp_hash
    while current is not None and current not in seen:
        if current == ancestor:
            return True
        seen.add(current)
        record = _record(store, current)
        current = record.parent if record else None
    return False


def _distance(own: Provenance, other: Provenance) -> tuple[int, int, float]:
    modules = sum(own.modules.get(path) != digest for path, digest in other.modules.items())
    return len(changed_components(own, other)), modules, -_timestamp(other)


def _timestamp(record: Provenance) -> float:
    created_at = parsed_timestamp(record.created_at)
    return created_at.timestamp() if created_at else 0.0


def _others(store: Store, own: Provenance) -> Iterator[Provenance]:
    hashes = [exp_hash for exp_hash in list_hashes(store) if exp_hash != own.exp_hash]
    with ThreadPoolExecutor(_READERS) as readers:
        found = readers.map(lambda exp_hash: _record(store, exp_hash), hashes[:_MOST_RECORDS])
        yield from (record for record in found if record is not None)


def _record(store: Store, exp_hash: str) -> Provenance | None:
    try:
        return Experiment(store, exp_hash).provenance()
    except CkptStoreError:
        return None


def restored_line(training: Training, state: Mapping[str, Any]) -> str:
    """Return what of a checkpoint was restored, and what it holds besides that nobody gave an object for."""
    parts = ("optimizer", "scheduler", "scaler")
    held = [name for name in parts if state.get(f"{name}_state_dict") is not None]
    restored = ["model", *(name for name in held if getattr(training, name) is not None)]
    restored += ["RNG"] if state.get("rng_state") else []
    left = [name for name in held if getattr(training, name) is None]
    return f"restored {', '.join(restored)}" + (f"; it also holds {', '.join(left)}, not given" if left else "")
