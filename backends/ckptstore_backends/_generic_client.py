"""Every call to one fsspec filesystem: one instance for each process, one call at a time where that is needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ckptstore_backends._generic_errors import is_answer, translated
from ckptstore_backends._process import PerProcess

_T = TypeVar("_T")

_THREADS = 8


@dataclass(frozen=True, slots=True)
class _Connection:
    filesystem: Any
    lock: AbstractContextManager[Any]
    threads: ThreadPoolExecutor | None = field(default=None)


class GenericClient:
    """Calls a filesystem and translates its errors.

    A synchronous implementation is often one connection that two threads must not use at once, and that the
    server drops when it was idle for some minutes: such calls are made one at a time, and once more on a new
    connection. An asynchronous one looks after both by itself.
    """

    def __init__(self, kind: type[Any], options: Mapping[str, Any], url: str) -> None:
        self.kind = kind
        self.options = dict(options)
        self.url = url
        self.concurrent = bool(getattr(kind, "async_impl", False))
        self._connection = PerProcess(self._connect, _disconnect)

    def call(self, asked: str, work: Callable[[Any], _T], *, repeat: bool = True) -> _T:
        """Return what the work does with the filesystem.

        Args:
            asked: for the message: "get 'k'".
            work: is given the filesystem.
            repeat: whether it may be done twice, when the first time ended without an answer.

        Raises:
            StoreError: translated.
        """
        try:
            return self._call(work)
        except Exception as error:  # any implementation, with errors of its own
            if is_answer(error) or not repeat or self.concurrent:
                raise translated(error, f"{asked} in {self.url}") from error
        self._connection.close()
        try:
            return self._call(work)
        except Exception as error:
            raise translated(error, f"{asked} in {self.url}") from error

    def submit(self, work: Callable[[], _T]) -> Future[_T]:
        """Start work that calls: in another thread where calls may run side by side, else here and now."""
        threads = self._connection.get().threads if self.concurrent else None
        if threads is not None:
            return threads.submit(work)
        done: Future[_T] = Future()
        done.set_result(work())
        return done

    def close(self) -> None:
        """Let go of the filesystem; it closes its connections when it is collected."""
        self._connection.close()

    def _call(self, work: Callable[[Any], _T]) -> _T:
        connection = self._connection.get()
        with connection.lock:
            return work(connection.filesystem)

    def _connect(self) -> _Connection:
        from fsspec.dircache import DirCache

        filesystem = self.kind(**self.options, skip_instance_cache=True)
        if isinstance(getattr(filesystem, "dircache", None), DirCache):
            # not as an option, which some would hand on to their client; a cache of another kind is emptied instead
            filesystem.dircache = DirCache(use_listings_cache=False)
        if self.concurrent:
            return _Connection(filesystem, nullcontext(), ThreadPoolExecutor(_THREADS, "ckptstore generic"))
        return _Connection(filesystem, threading.RLock())


def _disconnect(connection: _Connection) -> None:
    if connection.threads is not None:
        connection.threads.shutdown(wait=False, cancel_futures=True)
