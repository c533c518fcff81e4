"""Check what torch.save wrote as far as its format allows: the CRC32 of each record, without loading anything."""

from __future__ import annotations

import zipfile

from ckptstore.archive.content import Content
from ckptstore.archive.foreign import LEGACY
from ckptstore.errors import CorruptCheckpoint
from ckptstore.rangedfile import RangedFile
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
    file = RangedFile(lambda wanted: b"".join(content.read([wanted])), content.size_bytes, _WINDOW_BYTES)
    try:
        with zipfile.ZipFile(file) as archive:
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
