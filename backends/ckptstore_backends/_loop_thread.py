"""An event loop in a thread of its own, so that blocking code can drive an asynchronous client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

_T = TypeVar("_T")


class LoopThread:
    """Runs coroutines for any number of threads, until it is stopped.

    The thread is a daemon: it does not hold up the interpreter, and it still serves while exit handlers run.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(_ThreadEach(1))
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    @property
    def is_current(self) -> bool:
        """Whether the caller runs in this very thread, where waiting for it would be for ever."""
        return threading.current_thread() is self._thread

    def submit(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Start a coroutine; cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine to its end; an interrupt cancels it."""
        return result_of(self.submit(work))

    def stop(self) -> None:
        """End the loop and its thread."""
        self.run(_settle())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def result_of(future: Future[_T]) -> _T:
    """Wait for a future; an interrupt cancels it."""
    try:
        return future.result()
    finally:
        future.cancel()
        del future  # with its error it would make a cycle that keeps the caller's buffers until a collection


def start(work: Callable[[], _T], name: str) -> Future[_T]:
    """Run blocking work in a daemon thread of its own; it has begun when this returns, and cannot be cancelled."""
    future: Future[_T] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001  # it is raised where the result is awaited
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


class _ThreadEach(ThreadPoolExecutor):
    """What a loop looks up host names with. Pools refuse work while the interpreter exits; this does not."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return start(lambda: fn(*args, **kwargs), "ckptstore blocking call")


async def _settle() -> None:
    """Let cancelled tasks end, and closed transports close: they need a turn of the loop each."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.sleep(0)
