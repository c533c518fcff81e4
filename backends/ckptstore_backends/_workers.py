"""Blocking calls, in such a way that the main thread hears of a signal meanwhile."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from ckptstore_backends._loop_thread import result_of

_T = TypeVar("_T")


class Workers:
    """Threads that wait for the main thread's calls.

    One is enough, but for a signal handler that makes a call while another one is under way. An interrupted call
    goes on in its thread: what it is given must not change.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._idle: deque[_Worker] = deque()

    def call(self, work: Callable[[], _T]) -> _T:
        """Return what work returns. Only the main thread does not run it itself: no other hears of signals."""
        if threading.current_thread() is not threading.main_thread():
            return work()
        worker = self._idle.pop() if self._idle else _Worker(self._name, self._idle)
        return result_of(worker.start(work))

    def stop(self) -> None:
        """End the threads, each after its call."""
        while self._idle:
            self._idle.pop().end()


class _Worker:
    def __init__(self, name: str, idle: deque[_Worker]) -> None:
        self._calls: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        self._idle = idle
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def start(self, work: Callable[[], _T]) -> Future[_T]:
        future: Future[_T] = Future()
        self._calls.put((work, future))
        return future

    def end(self) -> None:
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            self._carry_out(*call)
            del call  # it holds what was sent, and what came

    def _carry_out(self, work: Callable[[], Any], future: Future[Any]) -> None:
        if not future.set_running_or_notify_cancel():  # from now on an interrupted caller cannot cancel it
            return self._idle.append(self)
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001  # it is raised in the other thread
            self._idle.append(self)
            return future.set_exception(error)
        self._idle.append(self)
        return future.set_result(result)
