"""fsspec filesystems under schemes of the tests, as a stranger's package would bring them."""

from __future__ import annotations

from typing import Any

from fsspec import AbstractFileSystem, register_implementation
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem
from fsspec.spec import AbstractBufferedFile
from s3fs import S3FileSystem

from ckptstore.store import Store, open_store


class Disk(LocalFileSystem):  # type: ignore[misc]  # it ships no types
    """Renames, as a network drive does."""

    protocol = "disk"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(path).removeprefix("disk://").rstrip("/") or "/"


class Heap(MemoryFileSystem):  # type: ignore[misc]  # it ships no types
    """Takes whole objects."""

    protocol = "heap"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + str(path).removeprefix("heap://").strip("/")


class Swarm(AsyncFileSystem):  # type: ignore[misc]  # it ships no types
    """Takes whole objects, many at a time, into the heap."""

    protocol = "swarm"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + str(path).removeprefix("swarm://").strip("/")

    async def _info(self, path: str, **kwargs: Any) -> Any:
        return Heap().info(path)

    async def _ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        return Heap().ls(path, detail=detail)

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> Any:
        return Heap().cat_file(path, start, end)

    async def _pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        Heap().pipe_file(path, value, mode)

    async def _rm_file(self, path: str, **kwargs: Any) -> None:
        Heap().rm_file(path)


class Cloud(S3FileSystem):  # type: ignore[misc]  # it ships no types
    """Takes whole objects, many at a time, through sessions, sockets and a loop of its own."""

    protocol = "cloud"


class Page(LocalFileSystem):  # type: ignore[misc]  # it ships no types
    """Neither renames nor takes whole objects."""

    protocol = "page"
    mv = AbstractFileSystem.mv  # copies and deletes

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(path).removeprefix("page://").rstrip("/") or "/"


class Strict(Disk):
    """Renames, but not onto a file that is there."""

    protocol = "strict"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(path).removeprefix("strict://").rstrip("/") or "/"

    def mv(self, path1: str, path2: str, **kwargs: Any) -> None:
        if self.exists(path2):
            raise OSError("target exists")
        super().mv(path1, path2, **kwargs)


class Ledger(MemoryFileSystem):  # type: ignore[misc]  # it ships no types
    """Takes what was written into a file when that is closed, in one commit."""

    protocol = "ledger"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + str(path).removeprefix("ledger://").strip("/")

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        return LedgerFile(self, path, mode, block_size=1024) if mode == "wb" else super()._open(path, mode, **kwargs)


class LedgerFile(AbstractBufferedFile):  # type: ignore[misc]  # it ships no types
    """Gathers, and commits with the last chunk."""

    def _initiate_upload(self) -> None:
        self.gathered = b""

    def _upload_chunk(self, final: bool = False) -> None:
        self.buffer.seek(0)
        self.gathered += self.buffer.read()
        if final:
            self.fs.store[self.path] = MemoryFile(self.fs, self.path, self.gathered)


for _kind in (Disk, Heap, Swarm, Cloud, Page, Strict, Ledger):
    register_implementation(_kind.protocol, _kind)


def open_alias(url: str, **options: Any) -> Store:
    """Open a store in a process that may not know the schemes yet."""
    return open_store(url, **options)
