"""What an fsspec filesystem says of a file, as an ObjectInfo."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from ckptstore.objects import ObjectInfo

# Every implementation has names of its own, and gives the same ones in info() and ls().
_TIMES = ("mtime", "modified", "last_modified", "LastModified", "Last-Modified", "modify", "last_commit",
          "modificationTime", "uploadedAt", "updated", "timestamp", "created")  # fmt: skip
_VERSIONS = ("etag", "ETag", "version_id", "generation", "oid", "blob_id", "xet_hash", "content_hash", "checksum",
             "sha", "md5", "content_md5", "ino", "rev")  # fmt: skip
_UNKNOWN = datetime.fromtimestamp(0, UTC)


def info_of(key: str, found: Mapping[str, Any]) -> ObjectInfo:
    """Return what is said of a file; a time that it does not tell is 1970."""
    size_bytes = int(found.get("size") or 0)
    modified = _modified(found)
    marks = [str(found[name]) for name in _VERSIONS if found.get(name)]
    version = "-".join([*marks, f"{modified.timestamp():.6f}", str(size_bytes)])
    return ObjectInfo(key, size_bytes, modified, version)


def _modified(found: Mapping[str, Any]) -> datetime:
    for name in _TIMES:
        if (moment := _moment(found.get(name))) is not None:
            return moment
    return _UNKNOWN


def _moment(said: object) -> datetime | None:
    if isinstance(said, datetime):
        return said if said.tzinfo else said.replace(tzinfo=UTC)
    if isinstance(said, int | float) and not isinstance(said, bool):
        seconds = said / 1000 if said > 1e11 else said  # Hadoop counts milliseconds
        return datetime.fromtimestamp(seconds, UTC)
    return _moment_of_text(said) if isinstance(said, str) else None


def _moment_of_text(said: str) -> datetime | None:
    for parse in (_ftp_time, datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = parse(said)
        except ValueError:
            continue
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None


def _ftp_time(said: str) -> datetime:
    """Read the time of an MLSD answer (RFC 3659): digits, perhaps with a fraction."""
    return datetime.strptime(said.partition(".")[0], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
