"""Write checkpoints, at once or beside the training loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ckptstore import archive, keys
from ckptstore.architecture import PreparedArchitecture, write_architecture
from ckptstore.background import BackgroundSaver, Job
from ckptstore.experiment import Experiment
from ckptstore.handle import SaveHandle
from ckptstore.snapshot import Snapshot, SnapshotPool
from ckptstore.store import ObjectInfo

_ANNOUNCE_EVERY_BYTES = 64 * 1024 * 1024  # a part of an upload that lies across two of them is copied


@dataclass(frozen=True, slots=True)
class Save:
    """A checkpoint to write.

    Attributes:
        experiment: where it belongs.
        step: its step.
        state: what it holds; live tensors.
        architecture: to be written before it, where the experiment has none.
        committed: called with what the store says of the checkpoint, once it is durable.
    """

    experiment: Experiment
    step: int
    state: Mapping[str, Any]
    architecture: PreparedArchitecture | None
    committed: Callable[[ObjectInfo], None]

    @property
    def key(self) -> str:
        """The checkpoint's key."""
        return keys.checkpoint_key(self.experiment.exp_hash, self.step)


class CheckpointWriter:
    """Writes one checkpoint at a time, in the order in which they were asked for."""

    def __init__(self, saver: BackgroundSaver) -> None:
        self._saver = saver
        self._pool = SnapshotPool()

    def write(self, save: Save) -> None:
        """Write a checkpoint after those in flight: whole or not at all, durable when this returns. One upload.

        Raises:
            UnsavableState: before the first byte.
            StoreError, SaveStalled: this one failed, or, once this one is durable, one in the background had.
        """
        planned = archive.plan(save.state)
        with self._saver.turn:
            self._saver.wait()
            self._saver.wait_for_given_up(save.key)
            _put(save, _Buffers(planned, lambda: None))()
        self._saver.report()

    def start(self, save: Save, began: float) -> SaveHandle:
        """Copy the state and return; it is written while training goes on.

        Args:
            save: what to write.
            began: `time.perf_counter()` at the beginning of the call that training waits for.

        Raises:
            UnsavableState: before the first byte.
            NoMemoryForSnapshot: there is none for the copy; nothing was saved.
        """
        name = f"save of step {save.step} of experiment {save.experiment.exp_hash}"
        with self._saver.turn:
            self._saver.make_room()
            snapshot = self._pool.take(save.state)
            rest = replace(save, state={})  # a model that is given up meanwhile shall be freed
            job = Job(lambda progress: _write(rest, snapshot, progress), snapshot.release, name, save.key)
            self._saver.start(job)
        path = save.experiment.store.path(save.key)
        stall_seconds = time.perf_counter() - began
        return SaveHandle(save.step, path, stall_seconds, job.outcome, self._saver.give_up_if_stalled)

    def flush_started(self) -> None:
        """Wait for what is in flight now, and report nothing; from any thread."""
        self._saver.wait_for_started()

    def flush(self) -> None:
        """Wait until everything that was started is durable.

        Raises:
            StoreError, SaveStalled: a save failed.
        """
        self._saver.wait()
        self._saver.report()


def _write(save: Save, snapshot: Snapshot, progress: Callable[[], None]) -> Callable[[], None]:
    return _put(save, _Buffers(snapshot.stream(), progress))


def _put(save: Save, buffers: Iterable[memoryview]) -> Callable[[], None]:
    """Write a checkpoint; return what its commit calls for."""
    if save.architecture is not None:
        write_architecture(save.experiment, save.architecture)
    saved = save.experiment.store.put(save.key, buffers)
    return partial(save.committed, saved)


class _Buffers:
    """The buffers of an archive, each announced when it is asked for, with their size for the store to plan by.

    A large one is given in pieces, so that a slow store shows that it moves. Their end is announced too: who is told
    there that nobody waits any more publishes nothing.
    """

    def __init__(self, planned: archive.Archive | archive.Stream, progress: Callable[[], None]) -> None:
        self._planned = planned
        self._progress = progress

    @property
    def size_bytes(self) -> int:
        return self._planned.size_bytes

    def __iter__(self) -> Iterator[memoryview]:
        for buffer in self._planned.buffers():
            for first in range(0, buffer.nbytes, _ANNOUNCE_EVERY_BYTES):
                self._progress()
                yield buffer[first : first + _ANNOUNCE_EVERY_BYTES]
        self._progress()
