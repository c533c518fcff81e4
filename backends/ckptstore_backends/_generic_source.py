"""Read one version of a file of any fsspec filesystem, as far as that can be told."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Self

from ckptstore.errors import InvalidKey, KeyNotFound, ObjectChanged, StoreUnavailable
from ckptstore.objects import ByteRange, ObjectInfo
from ckptstore_backends._generic_client import GenericClient
from ckptstore_backends._generic_info import info_of
from ckptstore_backends._generic_publish import fresh
from ckptstore_backends._transfer import Chunk, RangePastEnd

_REQUESTS_AHEAD = 64


class GenericSource:
    """One file to be read, of one version when that is given.

    Its state is asked for before the first read and after each: when it is still the same, all bytes were of
    that version. A filesystem without ranged reads keeps the file open, which on most servers stays the old
    file when a new one is renamed onto it.
    """

    def __init__(self, client: GenericClient, place: str, key: str, version: str | None) -> None:
        self._client = client
        self._place = place
        self._key = key
        self._asked = f"get {key!r}"
        self._version = version
        self._size_bytes: int | None = None
        self._file: Any = None

    def pinned(self, version: str) -> Self:
        """Read that version only from now on."""
        self._version = version
        return self

    def head(self) -> Chunk:
        """Return size and version without bytes."""
        found = self._found()
        return Chunk(memoryview(b""), start=0, total_bytes=found.size_bytes, version=found.version)

    def fetch(self, wanted: ByteRange) -> Future[Chunk]:
        """Start to fetch one range."""
        return self._client.submit(lambda: self._fetch(wanted))

    def close(self) -> None:
        """Close the file, if one is open."""
        if self._file is not None:
            with suppress(Exception):
                self._client.call(self._asked, lambda _: self._file.close(), repeat=False)

    def _fetch(self, wanted: ByteRange) -> Chunk:
        if self._size_bytes is None:
            self._size_bytes = self._found().size_bytes
        start, stop = wanted.within(self._size_bytes)
        if start == stop:
            raise RangePastEnd(f"{self._key!r} ends before the range")
        data = self._client.call(self._asked, lambda filesystem: self._read(filesystem, start, stop))
        found = self._found()
        if len(data) != stop - start or found.size_bytes != self._size_bytes:
            raise StoreUnavailable(
                f"cannot {self._asked} in {self._client.url}: {len(data)} of {stop - start} bytes came; try again"
            )
        return Chunk(memoryview(bytearray(data)), start, found.size_bytes, found.version)

    def _found(self) -> ObjectInfo:
        found = stat(self._client, self._place, self._key, self._asked)
        if self._version is None:
            self._version = found.version
        if self._version != found.version:
            raise ObjectChanged(f"cannot {self._asked} in {self._client.url}: it was replaced; read it again")
        return found

    def _read(self, filesystem: Any, start: int, stop: int) -> bytes:
        if not _opens_to_read(type(filesystem)):
            return bytes(filesystem.cat_file(self._place, start=start, end=stop))
        if self._file is None or self._file.closed:
            self._file = filesystem.open(self._place, "rb")
        self._file.seek(start)
        if hasattr(self._file, "prefetch"):  # paramiko's: otherwise a round trip for every 32 KiB
            self._file.prefetch(stop, _REQUESTS_AHEAD)
        return bytes(self._file.read(stop - start))


def stat(client: GenericClient, place: str, key: str, asked: str) -> ObjectInfo:
    """Return what the filesystem says of a file.

    Raises:
        KeyNotFound: there is none, or it is a folder.
    """
    try:
        found = client.call(asked, lambda filesystem: fresh(filesystem).info(place))
    except InvalidKey as error:  # a file stands where a folder would have to be
        raise KeyNotFound(str(error)) from error
    if found["type"] != "file":
        raise KeyNotFound(f"cannot {asked} in {client.url}: it is a folder")
    return info_of(key, found)


def _opens_to_read(kind: type[Any]) -> bool:
    from fsspec import AbstractFileSystem
    from fsspec.asyn import AsyncFileSystem

    return not issubclass(kind, AsyncFileSystem) and kind.cat_file is AbstractFileSystem.cat_file
