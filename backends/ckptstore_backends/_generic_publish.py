"""How an object appears whole or not at all on a filesystem that is only known by its class.

fsspec's own ways do not do: ``with fs.open(key, "wb")`` publishes what was written so far when an exception
ends it, and so does the default `pipe_file` and `put_file`, which are made of it.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, ClassVar

from ckptstore.errors import KeyNotFound, StoreError
from ckptstore.objects import RESERVED_SEGMENT_PREFIX
from ckptstore_backends._generic_client import GenericClient

_BLOCK_BYTES = 8 * 1024 * 1024
_IN_MEMORY_BYTES = 64 * 1024 * 1024

# What is handed to such a file is sent in one commit when it is closed, and not at all when it is not.
_COMMIT_ON_CLOSE = frozenset({"huggingface_hub.hf_file_system.HfFileSystem"})

# Its pipe_file is a POST, which means something else on every server.
_NEVER = frozenset({"fsspec.implementations.http.HTTPFileSystem"})


class Publisher(ABC):
    """One way to publish.

    Attributes:
        name: for `Capabilities.transfer`.
        limits: what it cannot promise.
        drafts: whether an unfinished write is a file that a listing shows.
    """

    name: ClassVar[str]
    limits: ClassVar[tuple[str, ...]]
    drafts: ClassVar[bool]

    def __init__(self, client: GenericClient) -> None:
        self._client = client

    @abstractmethod
    def publish(self, path: str, body: Iterable[memoryview], asked: str) -> Mapping[str, Any]:
        """Have the body stand under the path, whole, or raise and leave what was there; return what info() says."""

    def _checked(self, path: str, wanted: int, asked: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._client.call(asked, lambda filesystem: fresh(filesystem).info(path))
        if found["size"] != wanted:
            raise StoreError(
                f"cannot {asked} in {self._client.url}: {found['size']} of {wanted} bytes arrived; try again"
            )
        return found

    def _fill(self, file: Any, body: Iterable[memoryview], asked: str) -> int:
        size_bytes = 0
        for view in body:
            for piece in _pieces(view):
                self._client.call(asked, _writing(file, piece), repeat=False)
                size_bytes += len(piece)
        self._client.call(asked, lambda _: file.close(), repeat=False)
        return size_bytes


class ByRename(Publisher):
    """Writes beside the target, under a name that no key has, and renames."""

    name = "fsspec, renamed into place"
    limits = (
        "where the server cannot rename onto an existing file, a replaced object is absent for a moment",
        "empty folders stay, so a key cannot take the name of a folder that once held objects",
    )
    drafts = True

    def publish(self, path: str, body: Iterable[memoryview], asked: str) -> Mapping[str, Any]:
        """Write a draft, check its size, rename it."""
        draft = _beside(path)
        file = self._opened(draft, asked)
        try:
            size_bytes = self._written(file, body, asked)
            self._checked(draft, size_bytes, asked)
            return self._renamed(draft, path, size_bytes, asked)
        except BaseException:
            with suppress(Exception):
                self._client.call(asked, lambda filesystem: filesystem.rm_file(draft))
            raise

    def _opened(self, draft: str, asked: str) -> Any:
        folder = draft.rpartition("/")[0] or "/"
        try:
            return self._client.call(asked, lambda filesystem: _open(filesystem, draft))
        except KeyNotFound:
            self._client.call(asked, lambda filesystem: filesystem.makedirs(folder, exist_ok=True))
        return self._client.call(asked, lambda filesystem: _open(filesystem, draft))

    def _written(self, file: Any, body: Iterable[memoryview], asked: str) -> int:
        try:
            return self._fill(file, body, asked)
        except BaseException:
            with suppress(Exception):
                self._client.call(asked, lambda _: file.close(), repeat=False)
            raise

    def _renamed(self, draft: str, path: str, size_bytes: int, asked: str) -> Mapping[str, Any]:
        try:
            self._move(draft, path, asked)
            return self._checked(path, size_bytes, asked)
        except StoreError:
            if not self._is_file(draft, asked) or not self._is_file(path, asked):
                raise
        return self._swapped(draft, path, size_bytes, asked)

    def _swapped(self, draft: str, path: str, size_bytes: int, asked: str) -> Mapping[str, Any]:
        """Put the old object aside, and back if the new one cannot take its place."""
        aside = _beside(path)
        self._move(path, aside, asked)
        try:
            self._move(draft, path, asked)
            found = self._checked(path, size_bytes, asked)
        except BaseException:
            self._move(aside, path, asked)
            raise
        self._client.call(asked, lambda filesystem: filesystem.rm_file(aside))
        return found

    def _move(self, source: str, target: str, asked: str) -> None:
        self._client.call(asked, lambda filesystem: filesystem.mv(source, target), repeat=False)

    def _is_file(self, path: str, asked: str) -> bool:
        try:
            return bool(self._client.call(asked, lambda filesystem: fresh(filesystem).info(path))["type"] == "file")
        except KeyNotFound:
            return False


class AtOnce(Publisher):
    """Sends whole objects, as object stores take them; an iterable is gathered first."""

    name = "fsspec, whole objects"
    limits = (
        "an iterable is gathered before it is sent: in memory up to 64 MiB, beyond in a temporary file",
        "uploads that a killed process left unfinished are not listed; they expire as the service decides",
    )
    drafts = False

    def publish(self, path: str, body: Iterable[memoryview], asked: str) -> Mapping[str, Any]:
        """Gather the body, send it, check its size."""
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as spool:
            for view in body:
                spool.write(view)
            size_bytes = spool.tell()
            spool.seek(0)
            if size_bytes <= _IN_MEMORY_BYTES or not self._sends_files():
                self._client.call(asked, lambda filesystem: filesystem.pipe_file(path, spool.read()))
            else:
                self._send_file(path, spool, asked)
        return self._checked(path, size_bytes, asked)

    def _send_file(self, path: str, spool: Any, asked: str) -> None:
        spool.rollover()
        with tempfile.NamedTemporaryFile() as file:
            while block := spool.read(_BLOCK_BYTES):
                file.write(block)
            file.flush()
            self._client.call(asked, lambda filesystem: filesystem.put_file(file.name, path))

    def _sends_files(self) -> bool:
        from fsspec.asyn import AsyncFileSystem

        return getattr(self._client.kind, "_put_file", None) is not getattr(AsyncFileSystem, "_put_file", None)


class OnClose(Publisher):
    """Fills a file that is sent when it is closed; on an error it is given up without closing."""

    name = "fsspec, committed on close"
    limits = ("a put passes through a temporary file of the client",)
    drafts = False

    def publish(self, path: str, body: Iterable[memoryview], asked: str) -> Mapping[str, Any]:
        """Fill the file, close it, check its size."""
        file = self._client.call(asked, lambda filesystem: _open(filesystem, path))
        try:
            size_bytes = self._fill(file, body, asked)
        except BaseException:
            _give_up(file)
            raise
        return self._checked(path, size_bytes, asked)


def publisher_of(kind: type[Any]) -> type[Publisher] | None:
    """Return how this implementation publishes; None when nothing it can do is whole or not at all."""
    from fsspec import AbstractFileSystem
    from fsspec.asyn import AsyncFileSystem

    name = f"{kind.__module__}.{kind.__qualname__}"
    if name in _NEVER:
        return None
    if name in _COMMIT_ON_CLOSE:
        return OnClose
    if issubclass(kind, AsyncFileSystem):
        return AtOnce if kind._pipe_file is not AsyncFileSystem._pipe_file else None  # noqa: SLF001  # fsspec's interface
    if kind.mv is not AbstractFileSystem.mv:
        return ByRename
    return AtOnce if kind.pipe_file is not AbstractFileSystem.pipe_file else None


def fresh(filesystem: Any) -> Any:
    """Return the filesystem with nothing remembered."""
    filesystem.invalidate_cache()
    return filesystem


def _beside(path: str) -> str:
    """Return a place for an unfinished write: beside the path, with a name of the form that `draft_of` reads."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{RESERVED_SEGMENT_PREFIX}{time.time_ns():016x}-{secrets.token_hex(8)}-{name}"


def _pieces(view: memoryview) -> Iterator[bytes]:
    # bytes, because not every implementation takes a memoryview; in pieces, because that is a copy
    for start in range(0, view.nbytes, _BLOCK_BYTES):
        yield bytes(view[start : start + _BLOCK_BYTES])


def _writing(file: Any, piece: bytes) -> Callable[[Any], Any]:
    return lambda _: file.write(piece)


def _open(filesystem: Any, path: str) -> Any:
    file = filesystem.open(path, "wb", block_size=_BLOCK_BYTES)
    if hasattr(file, "set_pipelined"):  # paramiko's: otherwise a round trip for every 32 KiB
        file.set_pipelined(True)
    return file


def _give_up(file: Any) -> None:
    with suppress(Exception):
        file.discard()
    file.closed = True
