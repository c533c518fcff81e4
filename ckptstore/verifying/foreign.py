"""Check what torch.save wrote as far as its format allows: the CRC32 of each record, without loading anything."""

from __future__ import annotations

import io
import os
import zipfile
from typing import Any

from ckptstore.archive.content import Content
from ckptstore.archive.foreign import LEGACY
from ckptstore.errors import CorruptCheckpoint
from ckptstore.store import ByteRange

__all__ = ["check_foreign"]

_WINDOW_BYTES = 4 * 1024 * 1024
_END_BYTES = 22


def check_foreign(content: Content) -> str:
    """Return why a file that has no index of ours cannot be checked whole; reads all of it, in bounded memory.

    Raises:
        CorruptCheckpoint: truncated, changed, or never a checkpoint.
    """
    first = b"".join(content.read([ByteRange(0, len(LEGACY))]))
    if first.startswith(LEGACY):
        return "written by an older torch.save, whose format has no checksum"
    if not first.startswith(b"PK\3\4"):
        raise CorruptCheckpoint(f"it begins with {first!r}, as no checkpoint does" if first else "it is empty")
    end = b"".join(content.read([ByteRange(max(0, content.size_bytes - _END_BYTES))]))
    if not end.startswith(b"PK\5\6") or not end.endswith(b"\0\0"):
        raise CorruptCheckpoint("its end is not there, or changed: the directory of its records cannot be found")
    if not _check_records(content):
        return "written by torch.save, without checksums"
    return "written by torch.save: its records match their CRC32, its directory has no checksum"


def _check_records(content: Content) -> bool:
    """Return whether the records have checksums, which they match."""
    try:
        with zipfile.ZipFile(_ContentFile(content)) as archive:
            entries = archive.infolist()
            sealed = any(entry.CRC for entry in entries)
            damaged = archive.testzip() if sealed else None
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, UnicodeError) as error:
        raise CorruptCheckpoint(f"its zip container is damaged ({error})") from None
    if not any(entry.filename.endswith("/data.pkl") for entry in entries):
        raise CorruptCheckpoint("it is a zip file without data.pkl, so no checkpoint")
    if damaged:
        raise CorruptCheckpoint(f"record {damaged} does not match its CRC32; its bytes were changed")
    return sealed


class _ContentFile(io.RawIOBase):
    """Content as the seekable file that zipfile reads, one window of it held."""

    def __init__(self, content: Content) -> None:
        self._content, self._position = content, 0
        self._start, self._window = 0, memoryview(b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._content.size_bytes}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def readinto(self, target: Any) -> int:
        view = memoryview(target).cast("B")
        if not self._start <= self._position < self._start + len(self._window):
            wanted = ByteRange(self._position, _WINDOW_BYTES)
            self._start, self._window = self._position, memoryview(b"".join(self._content.read([wanted])))
        data = self._window[self._position - self._start :][: len(view)]
        view[: len(data)] = data
        self._position += len(data)
        return len(data)
