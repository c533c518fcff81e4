"""The values that a Store takes and returns, and the grammar of its keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from ckptstore.errors import InvalidKey

__all__ = [
    "MAX_CREATE_BYTES",
    "MAX_KEY_BYTES",
    "MAX_SEGMENT_BYTES",
    "RESERVED_SEGMENT_PREFIX",
    "Buffer",
    "ByteRange",
    "Capabilities",
    "ObjectInfo",
    "Upload",
    "as_bytes_view",
    "check_key",
    "check_prefix",
    "redact",
]

Buffer: TypeAlias = bytes | bytearray | memoryview

MAX_SEGMENT_BYTES = 200
MAX_KEY_BYTES = 900  # S3 and GCS allow 1024 for the key and the store's own prefix together
MAX_CREATE_BYTES = 64 * 1024 * 1024  # a create is one request on every backend

RESERVED_SEGMENT_PREFIX = ".ckptstore-"
"""Begins the names that backends use for unfinished work; no key has such a segment."""

# Control characters break listings and logs, glob magic is expanded by fsspec and shells, a backslash is a
# separator on some systems, and the two non-characters cannot stand in the XML of a bucket listing.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f*?\\[\\]\\\\\ufffe\uffff]")

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
# Up to the last "@" before the path; and, as secret keys hold "/", "name:secret@" where no port follows the colon.
_USER_INFO = re.compile(r"(^[A-Za-z][A-Za-z0-9+.-]+:/?(?![:/])|://)(?:[^/?#]*@|[^/?#@:]*:(?![0-9]{1,5}/)[^@]*@)")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Some bytes of an object.

    Attributes:
        start: offset of the first byte; negative means the last ``-start`` bytes.
        length: how many bytes, or None for all that follow. A suffix has no length.

    As with a slice, what lies past the end is left out: a range that begins there is empty.
    """

    start: int
    length: int | None = None

    def __post_init__(self) -> None:
        if self.length is not None and (self.start < 0 or self.length < 0):
            raise ValueError(f"byte range {self.start}:{self.length} is a suffix with a length, or negative")

    def within(self, size_bytes: int) -> tuple[int, int]:
        """Return (first, past the last) offsets, clipped to an object of that size."""
        if self.start < 0:
            return max(0, size_bytes + self.start), size_bytes
        start = min(self.start, size_bytes)
        stop = size_bytes if self.length is None else min(size_bytes, start + self.length)
        return start, stop


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store says of one object.

    Attributes:
        key: its key.
        size_bytes: its length.
        modified: when it was written, by the store's clock, timezone-aware.
        version: an opaque text that differs whenever the object was replaced; put, stat and list give the same.
        checksums: lower-case hex digests that the store itself keeps, by algorithm name; often empty.
    """

    key: str
    size_bytes: int
    modified: datetime
    version: str
    checksums: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Upload:
    """An unfinished write that takes space in a store without being an object.

    Attributes:
        key: the key it would have been published under.
        upload_id: what the backend needs to abort it.
        started: when it began, timezone-aware.
    """

    key: str
    upload_id: str
    started: datetime


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a store can promise, known before the first call.

    Attributes:
        atomic_create: ``put(overwrite=False)`` has exactly one winner among racing writers.
        durable: what a put returned from survives a crash of the machine.
        server_side_copy: ``copy`` within the store moves no bytes through this process.
        transfer: what moves the bytes, for a report: "posix", "memory", "s3fs", ...
        limits: promises that this store cannot keep, one sentence each.
    """

    atomic_create: bool
    durable: bool
    server_side_copy: bool
    transfer: str
    limits: tuple[str, ...] = ()


def as_bytes_view(data: object) -> memoryview:
    """Return a flat view of a buffer's bytes, without a copy; whatever its elements and dimensions are.

    Raises:
        TypeError: when data is no buffer, not contiguous in C order, or holds Python objects.
    """
    view = memoryview(data)  # type: ignore[arg-type]  # the TypeError is the answer
    if not view.c_contiguous:
        raise TypeError(f"a {type(data).__name__} that is not contiguous has no bytes to view; make a copy first")
    if "O" in view.format:
        raise TypeError(f"a {type(data).__name__} of Python objects holds addresses, not data")
    try:
        return view.cast("B") if view.nbytes else memoryview(b"")
    except ValueError:  # it knows neither complex nor big-endian nor structured elements
        return _bytes_view_of_array(view)


def _bytes_view_of_array(view: memoryview) -> memoryview:
    # not PickleBuffer.raw: garbage collection of a memoryview over another one crashes the interpreter
    import numpy as np

    return np.asarray(view).reshape(-1).view(np.uint8).data


def check_key(key: str) -> str:
    """Return the key if it is inside the grammar.

    A key is one or more segments joined by "/", each of 1 to 200 UTF-8 bytes, without ".", "..", backslash,
    control characters or glob magic (``*?[]``), and none that begins with ".ckptstore-"; 900 bytes in all.

    Raises:
        InvalidKey: naming what is wrong.
    """
    if not isinstance(key, str):
        raise InvalidKey(f"a key is a str, not {type(key).__name__}")
    for segment in key.split("/"):
        _check_segment(segment, key)
    if len(key.encode()) > MAX_KEY_BYTES:
        raise InvalidKey(f"key {key[:60]!r}... has more than {MAX_KEY_BYTES} bytes; shorten it")
    return key


def check_prefix(prefix: str) -> str:
    """Return the prefix if it is "" or a key followed by "/".

    Raises:
        InvalidKey: naming what is wrong.
    """
    if prefix == "":
        return prefix
    if not isinstance(prefix, str) or not prefix.endswith("/"):
        raise InvalidKey(f"prefix {prefix!r} does not end with '/'; a prefix is '' or names a folder")
    check_key(prefix[:-1])
    return prefix


def _check_segment(segment: str, key: str) -> None:
    if not segment:
        raise InvalidKey(f"key {key!r} has an empty segment; write it relative, without '//' or an outer '/'")
    if segment in {".", ".."}:
        raise InvalidKey(f"key {key!r} has the segment {segment!r}; keys stay inside their store")
    if segment.startswith(RESERVED_SEGMENT_PREFIX):
        raise InvalidKey(f"key {key!r} has a segment that begins with {RESERVED_SEGMENT_PREFIX!r}, which is reserved")
    if found := _FORBIDDEN.search(segment):
        raise InvalidKey(f"key {key!r} holds {found.group()!r}; use letters, digits, '.', '_' and '-'")
    try:
        length = len(segment.encode())
    except UnicodeEncodeError:
        raise InvalidKey(f"key {key!r} is not valid unicode") from None
    if length > MAX_SEGMENT_BYTES:
        raise InvalidKey(
            f"key {key[:60]!r}... has a segment of {length} bytes; every store takes {MAX_SEGMENT_BYTES}, none more"
        )


def redact(url: str) -> str:
    """Return the URL without user-info, query and fragment, where credentials hide; a path as it is."""
    if not _SCHEME.match(url):
        return url
    return re.split("[?#]", _USER_INFO.sub(r"\1", url), maxsplit=1)[0]
