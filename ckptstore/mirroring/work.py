"""Do what was planned: many objects side by side, each experiment stage by stage, parents before their children."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeAlias

from ckptstore.errors import (
    AccessDenied,
    CkptStoreError,
    StoreFull,
    StoreNotFound,
    StoreUnavailable,
    UnsupportedOperation,
)
from ckptstore.keys import other_form
from ckptstore.mirroring.journal import Journal
from ckptstore.mirroring.outcome import Outcome
from ckptstore.mirroring.planning import Copy, Plan, Stage, stage_of, step_of
from ckptstore.mirroring.report import Failure, Removed, Transferred
from ckptstore.mirroring.soundness import check_same_checkpoint
from ckptstore.mirroring.survey import current
from ckptstore.mirroring.transfer import Carrier, Gone
from ckptstore.objects import ObjectInfo
from ckptstore.progress import Progress
from ckptstore.store import Store

_GIVE_UP_AFTER = 8
_OF_THE_WHOLE_STORE = (AccessDenied, StoreFull, StoreNotFound, StoreUnavailable, UnsupportedOperation)

Task: TypeAlias = Copy | ObjectInfo
"""An object to copy, or one of the target to delete."""


class Stopped(Exception):
    """The mirror ends before it is done."""


class Watch:
    """Passes progress on, from one thread at a time, and ends every transfer when the mirror is to stop."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self.stopped = threading.Event()

    def moved(self, size_bytes: int) -> None:
        """Count some bytes.

        Raises:
            Stopped: the mirror is to stop.
        """
        if self.stopped.is_set():
            raise Stopped
        with self._lock:
            self._progress.advance(size_bytes=size_bytes)

    def done(self) -> None:
        """Count an object."""
        with self._lock:
            self._progress.advance(objects=1)

    def expect(self, plans: Iterable[Plan]) -> None:
        """Count what there is to do."""
        for plan in plans:
            copies = [copy for stage in plan.copies.values() for copy in stage]
            size_bytes = sum(copy.source.size_bytes for copy in copies)
            self._progress.expect(size_bytes=size_bytes, objects=len(copies) + len(plan.removals))


class _Job:
    """One experiment on its way.

    Attributes:
        plan: what is to be done.
        parent: the job whose record has to be there before this one's.
        stages: what is left to be begun.
        open_tasks: how many of the stage that was begun are not done.
        broken: the key whose failure holds back all that follows, None while there is none.
        settled: nothing more will happen to its record.
        lacks_record: why it will not be there, None where it is.
        children: jobs that wait until it is settled.
    """

    def __init__(self, plan: Plan, parent: _Job | None) -> None:
        self.plan, self.parent = plan, parent
        self.stages: deque[Sequence[Task]] = deque(plan.stages())
        self.open_tasks = 0
        self.broken: str | None = None
        self.settled = False
        self.lacks_record: str | None = None
        self.children: list[_Job] = []

    @property
    def comes_next(self) -> Stage:
        """The stage that is to be begun; removals count as the last one."""
        first = self.stages[0][0] if self.stages else None
        return stage_of(first.key) if isinstance(first, Copy) else Stage.CHECKPOINTS


class Work:
    """Carries out plans.

    Args:
        carrier: copies objects.
        source: to make sure, before a deletion, that it still lacks the object.
        target: where deletions happen.
        journal: remembers what arrived.
        watch: is told of all of it.
        source_wins: where both sides hold two checkpoints of one step in two forms, the target's goes.
    """

    def __init__(
        self, carrier: Carrier, source: Store, target: Store, journal: Journal, watch: Watch, *, source_wins: bool
    ) -> None:
        self._carrier, self._source, self._target = carrier, source, target
        self._journal, self._watch, self._source_wins = journal, watch, source_wins
        self._outcome = Outcome()
        self._ready: deque[tuple[_Job, Task]] = deque()
        self._running: dict[Future[None], tuple[_Job, Task]] = {}
        self._in_a_row = 0

    def run(self, plans: Sequence[Plan], parents: Mapping[str, str], workers: int) -> Outcome:
        """Return what became of every object; a failure of one lets the others go on.

        Args:
            plans: parents before their children.
            parents: by prefix, the prefix of the plan whose record has to be there first.
            workers: how many objects at a time.
        """
        jobs: dict[str, _Job] = {}
        for plan in plans:
            jobs[plan.prefix] = _Job(plan, jobs.get(parents.get(plan.prefix, "")))
        waiting = deque(jobs.values())
        with ThreadPoolExecutor(workers, "ckptstore mirror") as pool:
            try:
                while waiting or self._ready or self._running:
                    self._start(pool, waiting, workers)
                    self._collect()
            except BaseException:
                self._watch.stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return self._outcome

    def _start(self, pool: ThreadPoolExecutor, waiting: deque[_Job], workers: int) -> None:
        while len(self._running) < workers and (self._ready or waiting):
            if not self._ready:
                self._advance(waiting.popleft())
                continue
            job, task = self._ready.popleft()
            self._running[pool.submit(self._do, task)] = job, task

    def _collect(self) -> None:
        if not self._running:
            return
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        for future in done:
            job, task = self._running.pop(future)
            self._settle(job, task, future.exception())
            job.open_tasks -= 1
            if not job.open_tasks:
                self._advance(job)

    # -- the order ------------------------------------------------------------------------------------

    def _advance(self, job: _Job) -> None:
        """Begin the next stage; a record waits for that of the experiment it points to."""
        if job.comes_next is Stage.RECORD and job.parent is not None:
            if not job.parent.settled:
                job.parent.children.append(job)
                return
            job.broken = job.broken or job.parent.lacks_record
        if job.broken is not None:
            self._hold_back(job)
        if job.comes_next > Stage.RECORD and not job.settled:
            self._settle_record(job)
        if job.stages:
            tasks = job.stages.popleft()
            job.open_tasks = len(tasks)
            self._ready.extend((job, task) for task in tasks)

    def _settle_record(self, job: _Job) -> None:
        job.settled, job.lacks_record = True, job.broken
        for child in job.children:
            self._advance(child)

    def _hold_back(self, job: _Job) -> None:
        for task in (task for tasks in job.stages for task in tasks):
            kept = "not copied" if isinstance(task, Copy) else "not deleted"
            self._outcome.failures.append(Failure(task.key, f"{kept}, because {job.broken} failed"))
        job.stages.clear()

    # -- one object -----------------------------------------------------------------------------------

    def _do(self, task: Task) -> None:
        if self._watch.stopped.is_set():
            raise Stopped
        if isinstance(task, Copy):
            self._copy(task)
        else:
            self._remove(task)
        self._watch.done()

    def _copy(self, copy: Copy) -> None:
        try:
            arrival = self._carrier.carry(copy)
        except Gone:
            self._outcome.gone.append(copy.key)
            return
        self._journal.remember(arrival.source, arrival.target)
        if arrival.proof is None:
            self._outcome.same.append(arrival.source)
            return
        moved = Transferred(copy.key, arrival.source.size_bytes, copy.replaced is not None, arrival.proof)
        self._outcome.transferred.append(moved)

    def _remove(self, info: ObjectInfo) -> None:
        """Delete an object of the target, if it still is the one that was listed and the source still lacks it."""
        if current(self._source, info.key) is not None:
            return
        there = current(self._target, info.key)
        if there is None or there.version != info.version:
            return
        if step_of(info.key) is not None and not self._source_wins:
            self._check_form_that_stays(info)
        self._target.delete([info.key])
        self._journal.forget(info.key)
        self._outcome.removed.append(Removed(info.key, info.size_bytes))

    def _check_form_that_stays(self, info: ObjectInfo) -> None:
        other = other_form(info.key)
        if current(self._source, other) is not None:
            check_same_checkpoint(self._target, info, self._target.stat(other))

    def _settle(self, job: _Job, task: Task, error: BaseException | None) -> None:
        if error is None:
            self._in_a_row = 0
            return
        if not isinstance(error, CkptStoreError | Stopped):
            raise error
        self._outcome.failures.append(Failure(task.key, str(error) or "not tried: too much had failed before"))
        job.broken = job.broken or task.key
        self._in_a_row += isinstance(error, _OF_THE_WHOLE_STORE)
        if self._in_a_row >= _GIVE_UP_AFTER:
            self._watch.stopped.set()
