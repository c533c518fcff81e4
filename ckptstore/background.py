"""Run saves one at a time beside the training loop, and make sure that none is lost silently."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Collection
from concurrent.futures import CancelledError, Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from ckptstore.errors import SaveReplaced, SaveStalled
from ckptstore.handle import LOOK_EVERY_S
from ckptstore.notices import logger, warn

Policy: TypeAlias = Literal["wait", "replace"]
OnError: TypeAlias = Literal["raise", "warn"]


@dataclass(eq=False, slots=True)
class Job:
    """One save to run.

    Attributes:
        act: does it; is handed a function to call whenever bytes have moved. Returns what is left to do once it is
            known to be durable: that cannot fail it any more.
        discard: gives its memory back; called once, whether it ran or not.
        name: for messages.
        key: what it writes.
    """

    act: Callable[[Callable[[], None]], Callable[[], None]]
    discard: Callable[[], None]
    name: str
    key: str
    outcome: Future[None] = field(default_factory=Future)
    progressed: float = field(default_factory=time.monotonic)

    def run(self) -> None:
        """Run it and record how it ended."""
        try:
            self._progress()
            rest = self.act(self._progress)
        except BaseException as error:  # noqa: BLE001  # handed to whoever asks, and to the next call
            self._end(error)
            return
        self._end(None)
        try:
            rest()
        except BaseException as error:  # noqa: BLE001  # nothing may say that what is durable was lost
            logger.warning("%s is durable, but what follows it failed: %s", self.name, error)

    def give_up(self, error: Exception) -> None:
        """End it for those who wait; what still runs publishes nothing, unless the store has every byte already."""
        with contextlib.suppress(InvalidStateError):  # it has just ended
            self.outcome.set_exception(error)

    def _progress(self) -> None:
        if self.outcome.done():
            raise CancelledError
        self.progressed = time.monotonic()

    def _end(self, error: BaseException | None) -> None:
        try:
            self.discard()
        except BaseException as failure:  # noqa: BLE001  # a device that failed fails whoever waits for it again
            error = error or failure
        self.progressed = time.monotonic()
        with contextlib.suppress(InvalidStateError):  # it was given up meanwhile
            if error is None:
                self.outcome.set_result(None)
            else:
                self.outcome.set_exception(error)


class BackgroundSaver:
    """At most one save in flight, and with the policy "replace" one more that waits.

    Whoever starts a save holds `turn` from `make_room` to `start`; the other methods may be called at any time.

    Args:
        policy: "wait" for the save in flight before the next one begins, or "replace" the one that waits.
        on_error: "raise" a failed save's error at the next call, or "warn" of it there.
        deadline_s: a save that moves no byte for so long is given up.
    """

    def __init__(self, *, policy: Policy, on_error: OnError, deadline_s: float) -> None:
        if policy not in ("wait", "replace") or on_error not in ("raise", "warn"):
            raise ValueError(
                f"save_policy is 'wait' or 'replace', on_error 'raise' or 'warn', not {policy!r}, {on_error!r}"
            )
        if not deadline_s > 0:
            raise ValueError(f"save_deadline_s is {deadline_s!r}; give a number of seconds")
        self._policy, self._on_error, self._deadline_s = policy, on_error, deadline_s
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._running: Job | None = None
        self._waiting: Job | None = None
        self._given_up: list[Job] = []
        self._failures: list[tuple[Job, BaseException]] = []
        self._turn = threading.RLock()
        self._is_flushed_at_exit = _flush_at_exit(self)

    @property
    def turn(self) -> threading.RLock:
        """The lock of whoever is starting a save."""
        self._begin_again_after_fork()
        return self._turn

    def make_room(self) -> None:
        """Wait until another save may be started, by the policy; raise or warn of one that failed.

        Raises:
            SaveStalled: the save in flight made no progress for the deadline, and was given up.
        """
        self._begin_again_after_fork()
        if self._policy == "wait":
            self._wait_until_idle()
        else:
            self._drop_waiting()
            self.give_up_if_stalled()
        self.report()

    def start(self, job: Job) -> None:
        """Run a job, once the one in flight has ended; returns at once, or when done where no thread can begin."""
        with self._changed:
            if self._running is None:
                self._run(job)
            else:
                self._waiting = job

    def wait(self) -> None:
        """Wait until nothing is in flight; a save that makes no progress for the deadline is given up."""
        self._begin_again_after_fork()
        self._wait_until_idle()

    def wait_for_started(self) -> None:
        """Wait for what is in flight or waiting now, as `wait` does, but not for what is started meanwhile."""
        self._begin_again_after_fork()
        with self._changed:
            started = {job for job in (self._running, self._waiting) if job is not None}
        self._wait_until_idle(started)

    def wait_for_given_up(self, key: str) -> None:
        """Wait until no save of this key that was given up can still be published, over a newer one.

        Raises:
            SaveStalled: one can, even after the deadline.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: not self._is_contested(key), self._deadline_s):
                raise SaveStalled(
                    f"an earlier save of {key} was given up but has not ended, and may still be published; "
                    "save as another step, or once the store answers again"
                )

    def give_up_if_stalled(self) -> None:
        """Give up the save in flight where it has made no progress for the deadline."""
        self._begin_again_after_fork()
        with self._changed:
            job = self._running
            if job is not None and time.monotonic() - job.progressed > self._deadline_s:
                self._give_up(job)

    def report(self) -> None:
        """Raise or warn of the saves that failed since the last report.

        Raises:
            SaveStalled: one made no progress for the deadline.
            BaseException: what another one raised; further failures are its notes.
        """
        with self._changed:
            failures, self._failures = self._failures, []
        for job, error in failures:
            if self._on_error == "warn":
                warn(f"{job.name} failed: {error}")
        if failures and self._on_error == "raise":
            first = failures[0][1]
            for job, error in failures[1:]:
                first.add_note(f"{job.name} failed too: {error}")
            raise first

    def _begin_again_after_fork(self) -> None:
        if self._process != os.getpid():  # the threads, and the saves that they run, are the parent's
            self._begin()

    def _run(self, job: Job) -> None:
        job.progressed = time.monotonic()
        self._running = job
        if self._is_flushed_at_exit:  # nobody would wait for a thread otherwise
            thread = threading.Thread(target=self._work, args=(job,), name=f"ckptstore {job.name}", daemon=True)
            with contextlib.suppress(RuntimeError):  # the system's limit is reached, or the program is ending
                thread.start()
                return
        self._work(job)

    def _work(self, job: Job) -> None:
        with self._changed:  # until then, this would take time from the loop that has just started it
            self._changed.wait_for(lambda: job.outcome.done() or not self._is_contested(job.key))
        job.run()
        with self._changed:
            if self._running is not job:  # it was given up meanwhile
                self._given_up.remove(job)
                self._changed.notify_all()
                return
            if error := job.outcome.exception():
                logger.error("%s failed: %s", job.name, error)
                self._failures.append((job, error))
            self._next()

    def _next(self) -> None:
        following = self._waiting
        self._running = self._waiting = None
        if following is not None:
            self._run(following)
        self._changed.notify_all()

    def _is_contested(self, key: str) -> bool:
        return any(job.key == key and job.outcome.exception() is not None for job in self._given_up)

    def _wait_until_idle(self, started: Collection[Job] | None = None) -> None:
        with self._changed:
            while (job := self._running) is not None and (started is None or job in started):
                self._changed.wait(LOOK_EVERY_S)
                self.give_up_if_stalled()

    def _give_up(self, job: Job) -> None:
        self._given_up.append(job)
        if job.outcome.done():
            logger.warning("%s is durable; what follows it takes longer than %g s", job.name, self._deadline_s)
        else:
            error = SaveStalled(
                f"{job.name} moved no byte for {self._deadline_s:g} s and was given up; is the store alive?"
            )
            job.give_up(error)
            self._failures.append((job, error))
        self._next()

    def _drop_waiting(self) -> None:
        with self._changed:
            dropped = self._waiting
            self._waiting = None
        if dropped is not None:
            dropped.give_up(SaveReplaced(f"{dropped.name} gave way to a newer one before it began"))
            dropped.discard()


def _flush_at_exit(saver: BackgroundSaver) -> bool:
    """Have the program wait for a saver at its end; return False when that has come already."""
    reference, owner = weakref.ref(saver), os.getpid()

    def flush() -> None:
        living = reference()
        if living is None or os.getpid() != owner:
            return
        try:
            living.wait()
            living.report()
        except BaseException as error:  # noqa: BLE001  # nobody is left to catch it
            logger.critical("a checkpoint was lost at the end of the program: %s", error)

    # Clients need their executors, which close before atexit; concurrent.futures itself registers here for that.
    with contextlib.suppress(RuntimeError):
        threading._register_atexit(flush)  # type: ignore[attr-defined]  # noqa: SLF001
        return True
    return False
