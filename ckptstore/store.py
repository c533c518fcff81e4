"""The one interface through which everything is read and written, and the way to open a store by URL.

A Store keeps objects (whole byte strings) under keys. It is synchronous and small; a convenience is a
function over it. Every promise is written here, once: a backend documents only how it differs, and
`ckptstore.testing.StoreTests` certifies it.
"""

from __future__ import annotations

import pathlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias

from ckptstore.bodies import Views, body_of, gathered
from ckptstore.errors import UnsupportedOperation
from ckptstore.objects import (
    MAX_CREATE_BYTES,
    Buffer,
    ByteRange,
    Capabilities,
    ObjectInfo,
    Upload,
    as_bytes_view,
    check_key,
    check_prefix,
    redact,
)
from ckptstore.opening import open_store
from ckptstore.receiving import filled

if TYPE_CHECKING:
    from upath import UPath

__all__ = [
    "MAX_CREATE_BYTES",
    "Buffer",
    "ByteRange",
    "Capabilities",
    "ObjectInfo",
    "Store",
    "StorePath",
    "Upload",
    "as_bytes_view",
    "check_key",
    "check_prefix",
    "open_store",
    "redact",
]

StorePath: TypeAlias = "pathlib.Path | UPath"
"""Where an object lies, for people and other libraries: a real path on disk, a UPath elsewhere."""

_COPY_BYTES = 8 * 1024 * 1024


class Store(ABC):
    """Objects under keys, in one folder, bucket or prefix.

    Keys are relative, "/"-separated and never read as patterns (grammar: `check_key`). A key must not be a
    folder of another key: a disk refuses that with InvalidKey, a bucket cannot notice it.

    A store may be shared between threads and used after a fork, on both sides of it. It may be pickled only
    where its backend says so. Nothing is cached: what one process wrote, the next call in another one sees.

    Every method raises, besides what it lists:
        InvalidKey: at once, for a key or prefix outside the grammar.
        StoreNotFound: the bucket does not exist, or a local root is a file. A local root that does not exist is an
            empty store.
        AccessDenied: credentials or rights are missing or wrong; found out in one attempt, never retried.
        StoreUnavailable: the store cannot be reached, or kept failing after retries.

    A backend implements the methods that begin with an underscore: their arguments have been checked, and
    buffers arrive as flat memoryviews. The public ones are not overridden.
    """

    @classmethod
    @abstractmethod
    def from_url(cls, url: str, **options: object) -> Self:
        """Return the store for a URL of this backend's scheme; touches neither disk nor network.

        Args:
            url: with its scheme, as given to `open_store`; a plain path arrives as a ``file://`` URL.
            options: the backend's own, under its own names; an unknown one is a TypeError.

        Raises:
            InvalidURL: naming what is wrong.
        """

    # -- what it is -----------------------------------------------------------------------------------

    @property
    @abstractmethod
    def url(self) -> str:
        """The store's address, without credentials; ``open_store(store.url)`` opens the same place."""

    @property
    def place(self) -> str:
        """The store's address and what its URL leaves out, such as the server: two stores of one place say the same.

        Without credentials. A place below another one begins with that one's and a "/".
        """
        return redact(self.url)

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this store can promise; no request is made."""

    def path(self, key: str) -> StorePath:
        """Return where the object lies or would lie: `pathlib.Path` on disk, `UPath` elsewhere, no secrets in it."""
        return self._path(check_key(key))

    # -- reading --------------------------------------------------------------------------------------

    def get(self, key: str) -> memoryview:
        """Return the whole object, in memory that nobody else holds. One request, or parallel ranges of one version.

        Raises:
            KeyNotFound: no such object.
            ObjectChanged: it was replaced meanwhile.
        """
        return self._get(check_key(key))

    def get_ranges(
        self, key: str, ranges: Iterable[ByteRange], *, version: str | None = None
    ) -> Iterator[memoryview]:
        """Yield the bytes of each range, in the order asked, all of one version of the object.

        Ranges are fetched in parallel with a bound on the bytes in flight, near ones in one request. What lies
        past the end is left out (see `ByteRange`), so compare lengths where they matter. Nothing is requested
        before the first ``next``; no request at all for no ranges. Closing the iterator cancels the rest.

        Args:
            key: the object.
            ranges: in any order, overlapping or not.
            version: from `ObjectInfo.version`, to read that version only; None pins the one found first.

        Raises:
            KeyNotFound: no such object, even if only empty ranges of it are asked.
            ObjectChanged: the object is not, or no longer, of that version.
        """
        return self._get_ranges(check_key(key), list(ranges), version)

    def get_ranges_into(
        self, key: str, ranges: Iterable[ByteRange], memory: Iterable[memoryview], *, version: str | None = None
    ) -> Iterator[memoryview]:
        """Read ranges into memory that the caller has; yield each piece of it as soon as it is filled, in order.

        As `get_ranges`, but bytes have memory of their own only while they are on their way. Give what is long as
        ranges of some MiB: one that is filled can be looked at while the next ones arrive.

        Args:
            key: the object.
            ranges: as for `get_ranges`.
            memory: writable, one for each range and no shorter; taken one at a time, when the bytes are near. What a
                range leaves over at the end of the object is cut off in what is yielded.
            version: as for `get_ranges`.

        Raises:
            KeyNotFound, ObjectChanged: as `get_ranges`; some of the memory may have been written to.
        """
        return self._get_ranges_into(check_key(key), list(ranges), memory, version)

    def mapped(self, key: str, *, version: str | None = None) -> memoryview:
        """Return the object as memory that is read from its file when looked at; what is written there stays private.

        It remains what it is when the object is replaced or deleted. No byte is read.

        Args:
            key: the object.
            version: as for `get_ranges`.

        Raises:
            UnsupportedOperation: this store has no files.
            KeyNotFound, ObjectChanged: as `get_ranges`.
        """
        return self._mapped(check_key(key), version)

    def stat(self, key: str) -> ObjectInfo:
        """Return what the store says of one object. One request.

        Raises:
            KeyNotFound: no such object.
        """
        return self._stat(check_key(key))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield every object under a prefix, ordered by the UTF-8 bytes of the whole key; streaming, never cached.

        A prefix that holds nothing yields nothing. One request per page (1,000 keys on a bucket).
        """
        return self._list(check_prefix(prefix))

    def list_prefixes(self, prefix: str = "") -> Iterator[str]:
        """Yield the folders one level below a prefix, each as a prefix that ends with "/", in the order of `list`.

        A folder is there as long as an object lies below it. One request per page of folders, however much lies
        below them.
        """
        return self._list_prefixes(check_prefix(prefix))

    # -- writing --------------------------------------------------------------------------------------

    def put(self, key: str, data: Buffer | Iterable[Buffer], *, overwrite: bool = True) -> ObjectInfo:
        """Store an object: it appears whole or not at all, and is durable when this returns.

        An iterable is pulled while earlier parts are already on their way, in bounded memory. If it raises, that
        error comes out of here, nothing is published and no unfinished upload stays behind. Each buffer must
        stay unchanged until put returns: backends send the memory itself, not a copy of it.

        Args:
            key: replaced if it exists.
            data: a buffer, contiguous in C order, of any shape and element type; or an iterable of them.
                An attribute ``size_bytes`` of the iterable tells how much it is: without it a bucket may refuse a
                stream beyond some 300 GiB, because it has to fix the size of the parts at the beginning.
            overwrite: False makes it an atomic create of up to 64 MiB, sent as one request: of several racing
                writers exactly one returns. An iterable is gathered first.

        Raises:
            TypeError: data is neither.
            KeyExists: with overwrite=False, when the key exists already.
            UnsupportedOperation: with overwrite=False, where `capabilities.atomic_create` is False.
            ValueError: with overwrite=False, for more than 64 MiB.
            StoreFull: no space is left; what was there before is intact.
        """
        check_key(key)
        body = body_of(data)
        if overwrite:
            return self._put(key, body)
        if not self.capabilities.atomic_create:
            raise UnsupportedOperation(f"{redact(self.url)} cannot create {key!r} atomically; see its capabilities")
        return self._create(key, gathered(body))

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; an absent one is no error. One request per thousand on a bucket.

        Raises:
            StoreError: naming the first of those that could not be deleted; the others are gone.
        """
        self._delete([check_key(key) for key in keys])

    def copy(self, key: str, target_key: str, *, target: Store | None = None) -> ObjectInfo:
        """Copy an object, replacing the target whole or not at all; all of one version of the source.

        Args:
            key: the source, in this store.
            target_key: where it goes.
            target: another store; None is this one.

        Bytes stay on the server where source and target allow it, and stream through this process otherwise. A copy
        onto itself leaves the object.

        Raises:
            KeyNotFound: no such source.
            ObjectChanged: the source was replaced meanwhile; the target is as it was.
        """
        return self._copy(check_key(key), check_key(target_key), self if target is None else target)

    def can_copy_to(self, target: Store) -> bool:
        """Tell whether `copy` to another store moves no bytes through this process; no request is made."""
        return target is self and self.capabilities.server_side_copy

    # -- unfinished writes ----------------------------------------------------------------------------

    def list_uploads(self, prefix: str = "") -> Iterator[Upload]:
        """Yield the unfinished writes under a prefix: uploads in progress and those whose writer died."""
        return self._list_uploads(check_prefix(prefix))

    def abort_upload(self, upload: Upload) -> None:
        """Remove an unfinished write; one that is gone already is no error."""
        self._abort_upload(upload)

    # -- lifetime -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Release connections; calling it twice, or never, does no harm. The store is not used afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({redact(self.url)!r})"

    # -- what a backend implements --------------------------------------------------------------------

    @abstractmethod
    def _path(self, key: str) -> StorePath: ...

    @abstractmethod
    def _get(self, key: str) -> memoryview: ...

    @abstractmethod
    def _get_ranges(self, key: str, ranges: Sequence[ByteRange], version: str | None) -> Iterator[memoryview]: ...

    def _get_ranges_into(
        self, key: str, ranges: Sequence[ByteRange], memory: Iterable[memoryview], version: str | None
    ) -> Iterator[memoryview]:
        return filled(self._get_ranges(key, ranges, version), memory)

    def _mapped(self, key: str, version: str | None) -> memoryview:  # noqa: ARG002  # most stores have no files
        raise UnsupportedOperation(
            f"{key!r} in {redact(self.url)} is no file on this machine, so it cannot be mapped"
        )

    @abstractmethod
    def _stat(self, key: str) -> ObjectInfo: ...

    @abstractmethod
    def _list(self, prefix: str) -> Iterator[ObjectInfo]: ...

    @abstractmethod
    def _list_prefixes(self, prefix: str) -> Iterator[str]: ...

    @abstractmethod
    def _put(self, key: str, body: memoryview | Iterator[memoryview]) -> ObjectInfo: ...

    @abstractmethod
    def _create(self, key: str, body: memoryview) -> ObjectInfo: ...

    @abstractmethod
    def _delete(self, keys: Sequence[str]) -> None: ...

    def _copy(self, key: str, target_key: str, target: Store) -> ObjectInfo:
        source = self._stat(key)
        starts = range(0, source.size_bytes, _COPY_BYTES)
        ranges = [ByteRange(start, min(_COPY_BYTES, source.size_bytes - start)) for start in starts]
        pieces = self._get_ranges(key, ranges, source.version)
        return target.put(target_key, Views(pieces, source.size_bytes))

    def _list_uploads(self, prefix: str) -> Iterator[Upload]:  # noqa: ARG002  # a store without them has none
        return iter(())

    def _abort_upload(self, upload: Upload) -> None:
        """Do nothing: a store without unfinished writes has none to abort."""
