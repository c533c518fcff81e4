"""Write to a disk past the page cache: a stream several blocks at once, while the next bytes are being made.

So the disk is busy from the first block on, the flush at the end has nothing left to do, and nobody's cached pages
are pushed out. Fresh pages of the cache cost more processor time than the copy into a few blocks that are used again.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from queue import SimpleQueue
from types import TracebackType
from typing import Self

BLOCK_BYTES = 16 * 1024 * 1024
"""Of a stream less is not worth it. A multiple of every disk's sector, as offsets, lengths and memory have to be."""

PIECE_BYTES = 1024 * 1024
"""Of what is in memory already less is not worth it."""

_SECTOR_BYTES = 4096

_WRITERS = 2  # while one block is handed to the disk, the other one is on its way
_BLOCKS = _WRITERS + 1
_DIRECT = getattr(os, "O_DIRECT", 0)


def bypass_cache(descriptor: int, *, wanted: bool) -> bool:
    """Have writes bypass the page cache, or not; return whether they do. Not every file system lets them."""
    if not _DIRECT:
        return False
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | _DIRECT if wanted else flags & ~_DIRECT)
    except OSError:
        return False
    return wanted


def is_direct(descriptor: int) -> bool:
    """Tell whether writes bypass the page cache."""
    return bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & _DIRECT)


def write_sectors(descriptor: int, data: memoryview) -> int:
    """Write the whole sectors that some memory begins with, wherever it lies, to an empty file; return their length.

    The file bypasses the page cache, and its offset is behind them afterwards.
    """
    block = _new_block(PIECE_BYTES)
    stop = data.nbytes - data.nbytes % _SECTOR_BYTES
    with suppress(OSError):  # where that cannot be, or there is no space, the writes tell
        os.posix_fallocate(descriptor, 0, data.nbytes)  # a file that grows goes through its journal piece by piece
    for start in range(0, stop, PIECE_BYTES):
        size = min(PIECE_BYTES, stop - start)
        block[:size] = data[start : start + size]
        _write_at(descriptor, block[:size], start)
    return os.lseek(descriptor, stop, os.SEEK_SET)


def _write_at(descriptor: int, data: memoryview, offset: int) -> None:
    done = 0
    while done < data.nbytes:
        direct = is_direct(descriptor)  # asked before: another thread may end it meanwhile
        try:
            done += os.pwrite(descriptor, data[done:], offset + done)
        except OSError as error:
            if error.errno != errno.EINVAL or not direct:
                raise
            bypass_cache(descriptor, wanted=False)  # it said that it could, and cannot


def _new_block(size_bytes: int) -> memoryview:
    # Shared between processes: the memory of a direct write must not be moved by a fork, see open(2).
    return memoryview(mmap.mmap(-1, size_bytes))


def _copy(source: memoryview, target: memoryview) -> None:
    """Copy some bytes without the GIL, so that a training loop goes on meanwhile."""
    import numpy as np

    np.copyto(np.frombuffer(target, np.uint8), np.frombuffer(source, np.uint8))


class DirectWriter:
    """A context manager that writes the whole blocks of a stream to an empty file, by threads of its own.

    Whatever goes wrong, no thread touches the file after exit.

    Args:
        descriptor: the file, which bypasses the page cache.
        translating: makes what translates the errors of a write.
    """

    def __init__(self, descriptor: int, translating: Callable[[], AbstractContextManager[None]]) -> None:
        self._descriptor = descriptor
        self._translating = translating
        self._free: SimpleQueue[memoryview] = SimpleQueue()
        self._tasks: SimpleQueue[tuple[memoryview, int] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._failure: BaseException | None = None
        self._made = self._offset = self._filled = 0
        self._block = self._next_block()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._join()

    def write(self, view: memoryview) -> None:
        """Append some bytes, which may be changed afterwards; waits while every block is under way.

        Raises:
            StoreError: a write failed, this one or one before it.
        """
        while view.nbytes:
            piece, view = view[: BLOCK_BYTES - self._filled], view[BLOCK_BYTES - self._filled :]
            _copy(piece, self._block[self._filled : self._filled + piece.nbytes])
            self._filled += piece.nbytes
            if self._filled == BLOCK_BYTES:
                self._send()

    def finish(self) -> memoryview:
        """Wait until every whole block is written, and return the bytes behind them; the file's offset is there.

        Raises:
            StoreError: a write failed.
        """
        self._join()
        self._raise_failure()
        with self._translating():
            os.lseek(self._descriptor, self._offset, os.SEEK_SET)
        return self._block[: self._filled]

    def _send(self) -> None:
        if len(self._threads) < _WRITERS:
            thread = threading.Thread(target=self._work, name="ckptstore disk", daemon=True)
            thread.start()
            self._threads.append(thread)
        self._tasks.put((self._block, self._offset))
        self._offset += BLOCK_BYTES
        self._filled = 0
        self._block = self._next_block()
        self._raise_failure()

    def _next_block(self) -> memoryview:
        if self._made == _BLOCKS:
            return self._free.get()
        self._made += 1
        return _new_block(BLOCK_BYTES)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            block, offset = task
            try:
                if self._failure is None:
                    with self._translating():
                        _write_at(self._descriptor, block, offset)
            except BaseException as error:  # noqa: BLE001  # raised by the thread that makes the stream
                self._failure = error
            self._free.put(block)

    def _join(self) -> None:
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
