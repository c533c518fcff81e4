"""An unfinished write of a local store: a file beside its target, under a name that no key has."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Self

from ckptstore.errors import InvalidKey, KeyExists, StoreError, UnsupportedOperation
from ckptstore.objects import RESERVED_SEGMENT_PREFIX
from ckptstore_backends._local_direct import PIECE_BYTES, DirectWriter, bypass_cache, write_sectors
from ckptstore_backends._local_errors import writing
from ckptstore_backends._local_file import OpenFile
from ckptstore_backends._local_tree import make_folders, prune, status, sync, sync_folder

# time in nanoseconds, then a random text; with a segment of 200 bytes that makes 245, and file systems take 255
_NAME = re.compile(re.escape(RESERVED_SEGMENT_PREFIX) + r"(?P<started>[0-9a-f]{16})-[0-9a-f]{16}-(?P<name>.+)")
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
_ATTEMPTS = 100
_COPY_BYTES = 8 * 1024 * 1024


def draft_of(file_name: str) -> tuple[str, datetime] | None:
    """Return (the name it would be published under, when it began) if that is the name of a draft."""
    found = _NAME.fullmatch(file_name)
    if found is None:
        return None
    return found["name"], datetime.fromtimestamp(int(found["started"], 16) / 1e9, UTC)


class Draft:
    """A context manager: fill it, then `replace` or `create` publishes it; otherwise it is removed on exit.

    Only a killed process or machine leaves the file behind.
    """

    def __init__(self, target: Path, root: Path, asked: str) -> None:
        self._target, self._folder = target, target.parent
        self._root, self._asked = root, asked
        stamp = f"{time.time_ns():016x}-{secrets.token_hex(8)}"
        self._path = self._folder / f"{RESERVED_SEGMENT_PREFIX}{stamp}-{target.name}"
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        try:
            with writing(self._asked):
                self._descriptor = self._open()
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._discard()

    @property
    def descriptor(self) -> int:
        """The open file."""
        if self._descriptor is None:
            raise RuntimeError("the draft is not open")
        return self._descriptor

    def write(self, data: memoryview) -> None:
        """Append some bytes."""
        done = 0
        with writing(self._asked):
            while done < len(data):
                done += os.write(self.descriptor, data[done:])

    def write_whole(self, data: memoryview) -> None:
        """Fill an empty file; where the file system can, what is not short goes straight to the disk."""
        done = 0
        if data.nbytes >= PIECE_BYTES and bypass_cache(self.descriptor, wanted=True):
            with writing(self._asked):
                done = write_sectors(self.descriptor, data)
            bypass_cache(self.descriptor, wanted=False)
        self.write(data[done:])

    def write_stream(self, views: Iterable[memoryview]) -> None:
        """Append what may be long, to an empty file; where the file system can, it goes straight to the disk."""
        if not bypass_cache(self.descriptor, wanted=True):
            for view in views:
                self.write(view)
            return
        with DirectWriter(self.descriptor, partial(writing, self._asked)) as writer:
            for view in views:
                writer.write(view)
            rest = writer.finish()
        bypass_cache(self.descriptor, wanted=False)
        self.write(rest)

    def write_file(self, source: OpenFile) -> None:
        """Append another file, within the kernel where it can; a file system with reflinks shares the blocks.

        Raises:
            ObjectChanged: the source was changed in place meanwhile.
        """
        done = self._copy_in_kernel(source)
        while done < source.size_bytes:
            data = source.read(done, min(done + _COPY_BYTES, source.size_bytes))
            self.write(data)
            done += len(data)
        source.check_unchanged()

    def replace(self) -> os.stat_result:
        """Publish it under the target's name, over what was there; return its status."""
        found = self._finished()
        with writing(self._asked):
            self._rename()
        self._make_name_durable()
        return found

    def create(self) -> os.stat_result:
        """Publish it under the target's name if nothing has that name; return its status.

        Raises:
            KeyExists: something has.
        """
        found = self._finished()
        with writing(self._asked):
            self._link()
        self._make_name_durable()
        return found

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        for _ in range(_ATTEMPTS):  # whoever deletes the last object of a folder removes the folder: make it again
            with suppress(FileNotFoundError):
                return os.open(self._path, flags, 0o666)  # less the umask, as any file that this user makes
            with suppress(FileNotFoundError):
                make_folders(self._folder)
        raise StoreError(f"cannot {self._asked}: its folder was removed again and again; stop deleting it")

    def _finished(self) -> os.stat_result:
        now = time.time_ns()
        with writing(self._asked):
            with suppress(OSError):  # kernels stamp in steps of milliseconds, too coarse to tell versions apart
                os.utime(self.descriptor, ns=(now, now))
            sync(self.descriptor)
            return os.fstat(self.descriptor)

    def _rename(self) -> None:
        try:
            self._path.replace(self._target)
        except FileNotFoundError:
            raise StoreError(
                f"cannot {self._asked}: its unfinished write was removed meanwhile; put it again"
            ) from None

    def _link(self) -> None:
        try:
            os.link(self._path, self._target)
        except FileExistsError:
            if not self._is_published():  # NFS may repeat a link whose answer it lost
                raise self._lost() from None
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            self._rename_under_lock()

    def _is_published(self) -> bool:
        published = status(self._target)
        return published is not None and os.path.samestat(published, os.fstat(self.descriptor))

    def _rename_under_lock(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._lock(folder)
            if os.path.lexists(self._target):
                raise self._lost()
            self._rename()
        finally:
            os.close(folder)

    def _lock(self, folder: int) -> None:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
        except OSError as error:
            raise UnsupportedOperation(
                f"cannot {self._asked}: this file system has neither hard links nor locks to make a create atomic; "
                "put with overwrite=True"
            ) from error

    def _lost(self) -> KeyExists | InvalidKey:
        if self._target.is_dir():
            return InvalidKey(f"cannot {self._asked}: a folder has that name; choose another key")
        return KeyExists(f"cannot {self._asked}: an object has that key already")

    def _make_name_durable(self) -> None:
        with writing(self._asked), suppress(FileNotFoundError):  # deleted again, with its folder
            sync_folder(self._folder)

    def _copy_in_kernel(self, source: OpenFile) -> int:
        done = 0
        if not hasattr(os, "copy_file_range"):
            return done
        with suppress(OSError):  # what cannot be copied so is read and written
            while done < source.size_bytes:
                count = os.copy_file_range(source.descriptor, self.descriptor, source.size_bytes - done, done)
                if not count:
                    break
                done += count
        return done

    def _discard(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        with suppress(OSError):
            self._path.unlink()
        prune(self._folder, self._root)
