"""An object of a local store, open for reading: one version of it, or an error."""

from __future__ import annotations

import mmap
import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from ckptstore.errors import ObjectChanged
from ckptstore.objects import ByteRange, ObjectInfo
from ckptstore.receiving import cut
from ckptstore_backends._local_errors import reading

_ZEROED_BYTES = 64 * 1024
_READERS = 4


def object_info(key: str, found: os.stat_result) -> ObjectInfo:
    """Return what a file's status says of the object."""
    modified = datetime.fromtimestamp(found.st_mtime_ns / 1e9, UTC)
    return ObjectInfo(key, found.st_size, modified, file_version(found))


def file_version(found: os.stat_result) -> str:
    """Return a text that differs for every file that ever had a name, and after every change of its bytes."""
    return f"{found.st_mtime_ns:x}-{found.st_ino:x}-{found.st_size:x}"


def regular(found: os.stat_result) -> os.stat_result:
    """Return the status of a regular file; raise FileNotFoundError for anything else, which is no object."""
    if not stat.S_ISREG(found.st_mode):
        raise FileNotFoundError
    return found


class OpenFile:
    """A context manager over one descriptor: a replaced file goes on being readable here as it was.

    Attributes:
        descriptor: open for reading; its offset is not used, so that a fork may share it.
        size_bytes: the length when it was opened.
        version: as in `ObjectInfo`.
    """

    def __init__(self, path: Path, asked: str) -> None:
        self._asked = asked
        with reading(asked):
            # without O_NONBLOCK, opening a named pipe would wait for its writer
            self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            with reading(asked):
                found = regular(os.fstat(self.descriptor))
        except BaseException:
            os.close(self.descriptor)
            raise
        self.size_bytes, self.version = found.st_size, file_version(found)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self.descriptor)

    def read(self, start: int, stop: int) -> memoryview:
        """Return those bytes in memory of their own.

        Raises:
            ObjectChanged: the file was changed in place since it was opened.
        """
        return self._fill(_new_memory(stop - start), start)

    def read_into(self, ranges: Iterable[ByteRange], memory: Iterable[memoryview]) -> Iterator[memoryview]:
        """Fill memory with ranges, several at once; yield each piece, cut to what there is, in the order asked.

        Raises:
            ObjectChanged: as `read`.
        """
        pending: deque[Future[memoryview]] = deque()
        with ThreadPoolExecutor(_READERS, thread_name_prefix="ckptstore disk") as readers:
            try:
                for wanted, room in zip(ranges, memory, strict=False):
                    start, stop = wanted.within(self.size_bytes)
                    pending.append(readers.submit(self._fill, cut(room, stop - start), start))
                    if len(pending) > _READERS:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            finally:
                for future in pending:
                    future.cancel()

    def mapped(self) -> memoryview:
        """Return the file as memory: read when looked at, and copied when written to."""
        with reading(self._asked):
            size_bytes = self.size_bytes  # of what an empty file would map there is nothing
            return memoryview(mmap.mmap(self.descriptor, size_bytes, access=mmap.ACCESS_COPY) if size_bytes else b"")

    def _fill(self, view: memoryview, start: int) -> memoryview:
        done = 0
        while done < len(view):
            with reading(self._asked):
                count = os.preadv(self.descriptor, [view[done:]], start + done)
            if not count:
                break
            done += count
        self.check_unchanged()
        return view

    def check_unchanged(self) -> None:
        """Raise ObjectChanged when the file was changed in place since it was opened."""
        self.check_version(file_version(os.fstat(self.descriptor)))

    def check_version(self, version: str) -> None:
        """Raise ObjectChanged when this is not that version."""
        if version != self.version:
            raise ObjectChanged(f"cannot {self._asked}: the object was changed meanwhile; read it again")


def _new_memory(size_bytes: int) -> memoryview:
    if size_bytes < _ZEROED_BYTES:
        return memoryview(bytearray(size_bytes))
    import numpy as np  # whoever reads small objects only need not wait for it

    return np.empty(size_bytes, np.uint8).data  # bytearray would write zeros first
