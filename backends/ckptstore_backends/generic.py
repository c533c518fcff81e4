"""Objects on any other filesystem that fsspec knows: Azure, SFTP, FTP, SMB, WebDAV, Hugging Face, ..."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, Self

from ckptstore.errors import KeyExists, KeyNotFound, ObjectChanged, StoreError, UnsupportedOperation
from ckptstore.objects import ByteRange, Capabilities, ObjectInfo, Upload
from ckptstore.store import Store
from ckptstore_backends._generic_class import check_options, checked_address, implementation, scheme_of
from ckptstore_backends._generic_client import GenericClient
from ckptstore_backends._generic_info import info_of
from ckptstore_backends._generic_publish import publisher_of
from ckptstore_backends._generic_source import GenericSource, stat
from ckptstore_backends._generic_tree import entries, is_key, walk
from ckptstore_backends._local_draft import draft_of
from ckptstore_backends._process import PerProcess
from ckptstore_backends._range_reader import read_ranges
from ckptstore_backends._ranges import RangeLimits
from ckptstore_backends._retries import Patience, RetryPolicy

if TYPE_CHECKING:
    from upath import UPath

__all__ = ["GenericStore"]

_UNTIL_IT_HOLDS_STILL = RetryPolicy(deadline_s=60.0, first_s=0.02, longest_s=1.0)

_LIMITS = (
    "durability is the server's affair, and unknown here",
    (
        "a version is what the filesystem tells of a file, often only time and size: a replacement of the same size "
        "within the same tick of its clock goes unnoticed, and so may one that is put back to what it was"
    ),
    "a root that does not exist is an empty store",
    "requests are repeated only as far as the filesystem's own client does it",
)
_READ_ONLY = "it can neither rename nor send a whole object, so nothing is written"
_NO_CREATES = "creates are refused: nothing excludes two writers; sole_writer=True is your word that there is one"
_ON_YOUR_WORD = (
    "creates look first and then put: they rest on sole_writer=True, your word that no other process creates"
)


class GenericStore(Store):
    """A store on any filesystem of fsspec that has no backend of its own.

    It promises what can be had from a filesystem known only by its class, and `capabilities` says what is
    missing. An object is written beside its place and renamed where the filesystem renames, sent whole where it
    takes whole objects, and refused otherwise. Every read asks for the file's state before and after, so a
    range costs up to three requests; a listing asks once per folder. Ranges are fetched side by side only where the
    implementation is asynchronous.

    Args:
        url: ``scheme://place/folder``; hosts and ports as the filesystem writes them, without user-info.
        sole_writer: True is your word that no two processes create the same object at the same time. Creates
            then look first and put; otherwise they are refused.
        options: those of the filesystem, such as username= and password=.
    """

    def __init__(self, url: str, *, sole_writer: bool = False, **options: Any) -> None:
        kind = implementation(url)
        self._url = checked_address(url)
        check_options(kind, options, scheme_of(self._url))
        self._root = str(kind._strip_protocol(self._url)).rstrip("/")  # noqa: SLF001  # fsspec's interface
        from_url = {name: value for name, value in kind._get_kwargs_from_urls(self._url).items() if value}  # noqa: SLF001  # as above
        self._client = GenericClient(kind, {**from_url, **options}, self._url)
        publisher = publisher_of(kind)
        self._publisher = None if publisher is None else publisher(self._client)
        self._sole_writer = sole_writer
        self._creating = PerProcess(threading.Lock, lambda _: None)
        self._range_limits = RangeLimits() if self._client.concurrent else RangeLimits(requests=1)

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """Return the store at a URL; options are the filesystem's own, and sole_writer."""
        return cls(url, **options)

    @property
    def url(self) -> str:
        """The address, without options."""
        return self._url

    @property
    def capabilities(self) -> Capabilities:
        """What can be promised of a filesystem that is known by its class only; no request is made."""
        if self._publisher is None:
            return Capabilities(
                atomic_create=False,
                durable=False,
                server_side_copy=False,
                transfer="fsspec, read-only",
                limits=(_READ_ONLY, *_LIMITS),
            )
        return Capabilities(
            atomic_create=self._sole_writer,
            durable=False,
            server_side_copy=False,
            transfer=self._publisher.name,
            limits=(_ON_YOUR_WORD if self._sole_writer else _NO_CREATES, *self._publisher.limits, *_LIMITS),
        )

    def close(self) -> None:
        """Let go of the filesystem."""
        self._client.close()

    def _path(self, key: str) -> UPath:
        from upath import UPath

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that it has no class of its own for this scheme
            return UPath(f"{self._url}/{key}")

    def _place(self, key: str) -> str:
        return f"{self._root}/{key}"

    def _get(self, key: str) -> memoryview:
        patience = Patience(_UNTIL_IT_HOLDS_STILL)
        while True:
            try:
                return next(self._get_ranges(key, [ByteRange(0)], None))
            except ObjectChanged as error:  # whichever version is read whole will do
                patience.sleep(error)

    def _get_ranges(self, key: str, ranges: Sequence[ByteRange], version: str | None) -> Iterator[memoryview]:
        with closing(GenericSource(self._client, self._place(key), key, version)) as source:
            yield from read_ranges(source, ranges, self._range_limits)

    def _stat(self, key: str) -> ObjectInfo:
        return stat(self._client, self._place(key), key, f"stat {key!r}")

    def _list(self, prefix: str) -> Iterator[ObjectInfo]:
        return (info_of(key, found) for key, found in walk(self._client, self._root, prefix) if is_key(key))

    def _list_prefixes(self, prefix: str) -> Iterator[str]:
        for name, found in entries(self._client, self._root, prefix):
            folder = f"{prefix}{name}/"
            if found["type"] == "directory" and is_key(folder[:-1]) and self._holds_objects(folder):
                yield folder

    def _holds_objects(self, folder: str) -> bool:
        return any(is_key(key) for key, _ in walk(self._client, self._root, folder))

    def _put(self, key: str, body: memoryview | Iterator[memoryview]) -> ObjectInfo:
        if self._publisher is None:
            raise UnsupportedOperation(f"cannot put {key!r} into {self._url}: {_READ_ONLY}")
        views = [body] if isinstance(body, memoryview) else body
        return info_of(key, self._publisher.publish(self._place(key), views, f"put {key!r}"))

    def _create(self, key: str, body: memoryview) -> ObjectInfo:
        with self._creating.get():
            try:
                self._stat(key)
            except KeyNotFound:
                return self._put(key, body)
        raise KeyExists(f"{key!r} exists already in {self._url}")

    def _delete(self, keys: Sequence[str]) -> None:
        failures = [error for error in map(self._delete_one, dict.fromkeys(keys)) if error is not None]
        if failures:
            raise failures[0]

    def _delete_one(self, key: str) -> StoreError | None:
        place, asked = self._place(key), f"delete {key!r}"
        try:
            self._stat(key)  # a folder is no object, and some implementations would remove all of it
            self._client.call(asked, lambda filesystem: filesystem.rm_file(place))
        except KeyNotFound:
            return None
        except StoreError as error:
            return error
        return None

    def _list_uploads(self, prefix: str) -> Iterator[Upload]:
        if self._publisher is None or not self._publisher.drafts:
            return
        for place, _ in walk(self._client, self._root, prefix):
            folder, _, name = place.rpartition("/")
            found = draft_of(name)
            key = f"{folder}/{found[0]}".lstrip("/") if found else ""
            if found is not None and is_key(key):
                yield Upload(key, name, found[1])

    def _abort_upload(self, upload: Upload) -> None:
        found = draft_of(upload.upload_id)
        folder, _, name = upload.key.rpartition("/")
        if found is None or found[0] != name:
            raise StoreError(f"{upload.upload_id!r} is no unfinished write of {upload.key!r} in {self._url}")
        place = self._place(f"{folder}/{upload.upload_id}".lstrip("/"))
        try:
            self._client.call(f"abort the write of {upload.key!r}", lambda filesystem: filesystem.rm_file(place))
        except KeyNotFound:
            return
