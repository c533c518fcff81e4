"""What stores in buckets have in common: keys below a prefix, bytes through a transfer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from ckptstore.errors import InvalidKey
from ckptstore.objects import ByteRange, ObjectInfo, check_key, check_prefix, redact
from ckptstore.store import Store
from ckptstore_backends._range_reader import read_ranges
from ckptstore_backends._ranges import RangeLimits
from ckptstore_backends._transfer import Transfer

if TYPE_CHECKING:
    from upath import UPath


class BucketClient(Protocol):
    """What sends the requests of one store.

    Attributes:
        bucket: its name.
        prefix: what every key begins with in the bucket.
        url: the store's address, without credentials and endpoint.
        memory_bytes: how much one transfer may hold.
    """

    bucket: str
    prefix: str
    url: str
    memory_bytes: int

    def full_key(self, key: str) -> str:
        """Return the key in the bucket."""


class BucketStore(Store):
    """A store in a bucket, below a prefix."""

    _scheme: ClassVar[str]

    def __init__(self, place: BucketClient) -> None:
        self._place = place
        self._range_limits = RangeLimits.within(place.memory_bytes)

    @property
    @abstractmethod
    def _transfer(self) -> Transfer:
        """What moves the bytes."""

    @property
    @abstractmethod
    def _endpoint(self) -> str | None:
        """The server that the options name."""

    @property
    def url(self) -> str:
        """The store's address, without credentials and endpoint."""
        return self._place.url

    @property
    def place(self) -> str:
        """The store's address after that of its server, where the options name one."""
        return f"{redact(self._endpoint)} {self.url}" if self._endpoint else self.url

    def _path(self, key: str) -> UPath:
        from upath import UPath

        return UPath(f"{self._scheme}://{self._place.bucket}/{self._place.full_key(key)}")

    def _get(self, key: str) -> memoryview:
        return next(self._get_ranges(key, [ByteRange(0)], None))

    def _get_ranges(self, key: str, ranges: Sequence[ByteRange], version: str | None) -> Iterator[memoryview]:
        return read_ranges(self._transfer.source(key, version), ranges, self._range_limits)

    def _put(self, key: str, body: memoryview | Iterator[memoryview]) -> ObjectInfo:
        return self._transfer.upload(key, body)

    def _own_key(self, full_key: str) -> str | None:
        """Return the key in this store, None for one that this library would not have written."""
        return self._own(full_key, check_key)

    def _own_prefix(self, full_prefix: str) -> str | None:
        """Do the same for a folder."""
        return self._own(full_prefix, check_prefix)

    def _own(self, full: str, check: Callable[[str], str]) -> str | None:
        own = full.removeprefix(self._place.prefix)
        try:
            return check(own)
        except InvalidKey:
            return None
