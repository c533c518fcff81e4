"""Compress checkpoints: write the `.pt.zst`, read it back, and only then delete the `.pt`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from ckptstore import keys
from ckptstore.archive.content import PlainContent
from ckptstore.archive.index import naming
from ckptstore.checkpoints import Forms
from ckptstore.compression.copies import check_content, content_digest
from ckptstore.compression.elements import Described, described
from ckptstore.compression.report import CompressReport, Outcome
from ckptstore.compression.selection import check_steps, newest_steps
from ckptstore.compression.work import Task, carried_out, give_way, outcome, take_back
from ckptstore.errors import CorruptCheckpoint, KeyNotFound, ObjectChanged
from ckptstore.experiment import Experiment, chosen_hashes
from ckptstore.opening import StoreLike, opened
from ckptstore.packing import PackedContent, Packing
from ckptstore.progress import Progress, Silent
from ckptstore.records import RecordCache
from ckptstore.store import ObjectInfo, Store, redact

__all__ = ["compress"]

_LEVELS = range(-7, 23)
_MOST_REMAINING = 0.98


def compress(
    store: StoreLike,
    *,
    experiments: Iterable[str] | None = None,
    steps: Iterable[int] | None = None,
    keep_latest: int = 1,
    level: int = 3,
    workers: int | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> CompressReport:
    """Compress old checkpoints: `.pt` becomes `.pt.zst`, lossless, and every load reads it as before.

    Each is stored whole or not at all, read back, decompressed and compared with the original before that is deleted.
    A kill at any moment loses nothing: until then the `.pt` is the checkpoint, and the next call finishes the work.
    Reading goes on meanwhile: who listed the `.pt` finds the `.pt.zst`. What does not get smaller stays as it is.

    Args:
        store: an open store, a path or a URL.
        experiments: full hashes; None is every one.
        steps: only these; None is every one.
        keep_latest: how many of the newest checkpoints of each experiment stay as they are, at least one: those of
            the highest steps, and those that a resume tries first.
        level: of zstd, -7 to 22. More than 3 costs much time and gains little on tensors.
        workers: threads; by default one for each core.
        dry_run: only say what would be done.
        progress: is told of bytes, each once to compress and once to read back.

    Returns:
        What became of each checkpoint. An error with one leaves it as it was and goes on with the next; no space, no
        right and no connection end the work.

    Raises:
        ValueError: level or keep_latest is out of range.
        InvalidName, UnknownExperiment, CheckpointNotFound: of what was named; nothing was done.
    """
    if level not in _LEVELS:
        raise ValueError(f"level {level!r} is not from {_LEVELS.start} to {_LEVELS.stop - 1}")
    if keep_latest < 1:
        raise ValueError(f"keep_latest is {keep_latest}; the newest checkpoint of an experiment is never compressed")
    options = _Options(level, workers, progress or Silent())
    with opened(store) as place:
        listed = [Experiment(place, exp_hash).forms() for exp_hash in chosen_hashes(place, experiments)]
        wanted = check_steps(listed, steps)
        tasks = [task for found in listed for task in _planned(place, found, wanted, keep_latest, options)]
        outcomes = carried_out(tasks, dry_run=dry_run, progress=options.progress)
        return CompressReport(redact(place.url), dry_run, outcomes)


@dataclass(frozen=True, slots=True)
class _Options:
    level: int
    workers: int | None
    progress: Progress


def _planned(
    store: Store, checkpoints: Sequence[Forms], wanted: set[int] | None, keep_latest: int, options: _Options
) -> Iterable[Task]:
    newest = newest_steps(checkpoints, keep_latest, partial(RecordCache().headers, store))
    for forms in checkpoints:
        if wanted is not None and forms.step not in wanted:
            continue
        if forms.plain is None:
            yield Task(forms, reason="compressed already")
        elif forms.step in newest:
            yield Task(forms, reason="among the newest")
        else:
            yield Task(forms, work=_Compression(store, forms, forms.plain, options))


@dataclass(frozen=True, slots=True)
class _Compression:
    """The work on one checkpoint."""

    store: Store
    forms: Forms
    plain: ObjectInfo
    options: _Options

    @property
    def size_bytes(self) -> int:
        """How many bytes it reads."""
        return 2 * self.plain.size_bytes

    def __call__(self) -> Outcome:
        """Do it.

        Raises:
            CkptStoreError: the `.pt` is as it was.
        """
        packed = self.forms.packed
        if packed is not None and self._matches(packed):
            return self._switched(packed)
        with naming(self.store, self.plain.key):
            stored, digest = self._store(described(PlainContent(self.store, self.plain)))
        if stored.size_bytes > _MOST_REMAINING * self.plain.size_bytes:
            take_back(self.store, stored, self.plain)
            return outcome(self.forms, "kept", "it does not get smaller", now=self.plain)
        self._check(stored, digest)
        return self._switched(stored)

    def _store(self, original: Described) -> tuple[ObjectInfo, str]:
        def observe(data: memoryview) -> None:
            original.observe(data)
            self.options.progress.advance(size_bytes=len(data))

        content = PlainContent(self.store, self.plain)
        packing = Packing(
            content.read,
            original.pieces,
            level=self.options.level,
            workers=self.options.workers,
            observe=observe,
        )
        key = keys.compressed_checkpoint_key(self.forms.exp_hash, self.forms.step)
        stored = self.store.put(key, packing)
        if original.check is None:  # nothing told whether it was read right
            check_content(content, self.plain.size_bytes, packing.content_digest)
        return stored, packing.content_digest

    def _check(self, stored: ObjectInfo, digest: str) -> None:
        try:
            check_content(PackedContent(self.store, stored), self.plain.size_bytes, digest, self._read_back)
        except CorruptCheckpoint:
            take_back(self.store, stored, self.plain)
            raise

    def _matches(self, packed: ObjectInfo) -> bool:
        """Whether what work that was cut short has left decompresses to the `.pt`."""
        plain = content_digest(PlainContent(self.store, self.plain))
        try:
            check_content(PackedContent(self.store, packed), self.plain.size_bytes, plain)
        except (CorruptCheckpoint, KeyNotFound, ObjectChanged):
            return False
        self.options.progress.advance(size_bytes=self.size_bytes)
        return True

    def _switched(self, stored: ObjectInfo) -> Outcome:
        give_way(self.store, self.plain, stored)
        return outcome(self.forms, "finished" if stored is self.forms.packed else "changed", now=stored)

    def _read_back(self, data: memoryview) -> None:
        self.options.progress.advance(size_bytes=len(data))
