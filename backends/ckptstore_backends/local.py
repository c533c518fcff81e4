"""Objects as files below a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.parse import unquote_to_bytes, urlsplit

from ckptstore.errors import InvalidURL, StoreError, StoreNotFound
from ckptstore.objects import ByteRange, Capabilities, ObjectInfo, Upload
from ckptstore.store import Store
from ckptstore_backends._local_direct import BLOCK_BYTES
from ckptstore_backends._local_draft import Draft, draft_of
from ckptstore_backends._local_errors import reading, writing
from ckptstore_backends._local_file import OpenFile, object_info, regular
from ckptstore_backends._local_tree import is_key, is_no_folder, prune, status, subfolders_and_files, walk

__all__ = ["LocalStore"]


class LocalStore(Store):
    """Objects as files below a folder, atomic and durable, on Linux and macOS.

    A put writes a file beside its target, flushes it to the medium, renames it and flushes the folder; a create
    links it instead. On a file system without hard links creates exclude each other by a lock on the folder,
    which writers on other machines may not see. A folder that does not exist is an empty store; the first put
    makes it. A delete that leaves a folder empty removes the folder. Files whose names are no keys, and all that
    is neither file nor folder, are not ours and are left alone. Links are followed.

    What is long is written past the page cache where the file system can: from a few blocks of 16 MiB, 48 MiB of
    memory in all, while the next ones are being filled. Ranges are read one after the other, into memory of the
    caller by a few threads. It may be pickled.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        """Take the folder as it is, relative to the current one; nothing is touched.

        Args:
            root: the folder.
        """
        self._root = Path(os.path.abspath(root))  # noqa: PTH100  # resolves ".." but not links

    @classmethod
    def from_url(cls, url: str) -> Self:  # type: ignore[override]  # no options: Python's own TypeError names one
        """Return the store for a ``file:///absolute/path`` URL, percent-encoded as `Path.as_uri` does."""
        parts = urlsplit(url)
        if parts.netloc not in {"", "localhost"}:
            raise InvalidURL(
                f"{url!r} names the host {parts.netloc!r}; a local path is written file:///absolute/path"
            )
        if parts.query or parts.fragment or re.search("[?#]$", url):
            raise InvalidURL(f"{url!r} has a query or fragment; in a path write '?' as %3F and '#' as %23")
        path = os.fsdecode(unquote_to_bytes(parts.path))
        if not path.startswith("/") or "\x00" in path:
            raise InvalidURL(f"{url!r} holds no absolute path; write file:///absolute/path")
        return cls(path)

    @property
    def url(self) -> str:
        """The folder as a ``file://`` URL."""
        return self._root.as_uri()

    @property
    def capabilities(self) -> Capabilities:
        """All of them, but for the copy within the kernel where the system has none."""
        return Capabilities(
            atomic_create=True, durable=True, server_side_copy=hasattr(os, "copy_file_range"), transfer="posix"
        )

    def can_copy_to(self, target: Store) -> bool:
        """Whether the kernel copies: to every other folder."""
        return isinstance(target, LocalStore) and self.capabilities.server_side_copy

    def _path(self, key: str) -> Path:
        return self._root / key

    def _get(self, key: str) -> memoryview:
        with self._opened(key) as file:
            return file.read(0, file.size_bytes)

    def _get_ranges(self, key: str, ranges: Sequence[ByteRange], version: str | None) -> Iterator[memoryview]:
        if not ranges:
            return
        with self._opened(key) as file:
            file.check_version(version or file.version)
            for wanted in ranges:
                yield file.read(*wanted.within(file.size_bytes))

    def _get_ranges_into(
        self, key: str, ranges: Sequence[ByteRange], memory: Iterable[memoryview], version: str | None
    ) -> Iterator[memoryview]:
        if not ranges:
            return
        with self._opened(key) as file:
            file.check_version(version or file.version)
            yield from file.read_into(ranges, memory)

    def _mapped(self, key: str, version: str | None) -> memoryview:
        with self._opened(key) as file:
            file.check_version(version or file.version)
            return file.mapped()

    def _stat(self, key: str) -> ObjectInfo:
        with reading(f"stat {key!r} in {self.url}"):
            return object_info(key, regular(self._path(key).stat()))

    def _list(self, prefix: str) -> Iterator[ObjectInfo]:
        with reading(f"list {prefix!r} in {self.url}"):
            for folder, entry in walk(self._folder(prefix), prefix):
                found = status(Path(entry.path)) if is_key(folder + entry.name) else None
                if found is not None:  # it may be deleted meanwhile
                    yield object_info(folder + entry.name, found)

    def _list_prefixes(self, prefix: str) -> Iterator[str]:
        with reading(f"list {prefix!r} in {self.url}"):
            for name, entry, is_folder in subfolders_and_files(self._folder(prefix)):
                folder = f"{prefix}{name}/"
                if is_folder and is_key(folder[:-1]) and self._holds_objects(entry.path, folder):
                    yield folder

    def _put(self, key: str, body: memoryview | Iterator[memoryview]) -> ObjectInfo:
        with self._draft(key) as draft:
            if isinstance(body, memoryview) and body.nbytes <= BLOCK_BYTES:
                draft.write_whole(body)
            else:
                draft.write_stream([body] if isinstance(body, memoryview) else body)
            return object_info(key, draft.replace())

    def _create(self, key: str, body: memoryview) -> ObjectInfo:
        with self._draft(key) as draft:
            draft.write_whole(body)
            return object_info(key, draft.create())

    def _delete(self, keys: Sequence[str]) -> None:
        failed = [error for error in map(self._delete_one, keys) if error is not None]
        if failed:
            raise failed[0]

    def _copy(self, key: str, target_key: str, target: Store) -> ObjectInfo:
        if not isinstance(target, LocalStore):
            return super()._copy(key, target_key, target)
        with self._opened(key) as source, target._draft(target_key) as draft:  # noqa: SLF001  # of the same class
            draft.write_file(source)
            return object_info(target_key, draft.replace())

    def _list_uploads(self, prefix: str) -> Iterator[Upload]:
        with reading(f"list unfinished writes in {prefix!r} of {self.url}"):
            for folder, entry in walk(self._folder(prefix), prefix):
                found = draft_of(entry.name)
                if found is not None and is_key(folder + found[0]):
                    yield Upload(folder + found[0], entry.name, found[1])

    def _abort_upload(self, upload: Upload) -> None:
        found = draft_of(upload.upload_id)
        if found is None or upload.key.rpartition("/")[2] != found[0] or not is_key(upload.key):
            raise StoreError(f"{upload.upload_id!r} is no unfinished write of {upload.key!r} in {self.url}")
        with writing(f"abort the write of {upload.key!r} in {self.url}"), suppress(FileNotFoundError):
            self._path(upload.key).with_name(upload.upload_id).unlink()
        prune(self._path(upload.key).parent, self._root)

    def _folder(self, prefix: str) -> Path:
        if is_no_folder(self._root):
            raise StoreNotFound(f"{self._root} is not a folder; a local store needs one")
        return self._root / prefix

    def _opened(self, key: str) -> OpenFile:
        return OpenFile(self._path(key), f"get {key!r} from {self.url}")

    def _draft(self, key: str) -> Draft:
        asked = f"put {key!r} into {self.url}"
        with writing(asked):
            return Draft(self._folder(key), self._root, asked)

    def _holds_objects(self, folder: str, prefix: str) -> bool:
        return any(is_key(below + entry.name) for below, entry in walk(folder, prefix))

    def _delete_one(self, key: str) -> StoreError | None:
        path = self._path(key)
        try:
            with writing(f"delete {key!r} from {self.url}"), suppress(FileNotFoundError, NotADirectoryError):
                if path.is_symlink() or not path.is_dir():  # a folder of objects is none itself
                    path.unlink()
                    prune(path.parent, self._root)
        except StoreError as error:
            return error
        return None
