"""The content of an object as a stream in bounded memory, and the digests by which it is recognised elsewhere."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from typing import Any

import xxhash

from ckptstore.errors import ObjectChanged
from ckptstore.mirroring.ahead import ahead
from ckptstore.objects import ByteRange, ObjectInfo, redact
from ckptstore.store import Store

CHUNK_BYTES = 8 * 1024 * 1024
_NEAR_BYTES = 1024 * 1024  # memory of this size is used again warm; fresh pages cost more than any digest
_SEGMENT_BYTES = 4 * CHUNK_BYTES  # asked for at once: a store may fetch all of it, and hold it

PART_BYTES = 16 * 1024 * 1024
"""Up to here an object is read into one buffer and put in one request."""
_MAX_PARTS = 10_000

_ENTITY_TAG = re.compile(r"[0-9a-f]{32}(-[0-9]+)?")


def whole(store: Store, info: ObjectInfo, buffer: memoryview | None = None) -> memoryview:
    """Return all bytes of one version of an object, in a buffer that holds them where one is given.

    Raises:
        ObjectChanged: it was replaced.
        KeyNotFound: it is gone.
    """
    wanted = [ByteRange(0, info.size_bytes)]
    if buffer is None:
        [data] = store.get_ranges(info.key, wanted, version=info.version)
    else:
        [data] = store.get_ranges_into(info.key, wanted, [buffer[: info.size_bytes]], version=info.version)
    _check_length(store, info, data.nbytes)
    return data


def is_near(store: Store) -> bool:
    """Whether reading from a store costs no more than memory or a disk does."""
    return store.capabilities.transfer in {"posix", "memory"}


def digest_of(store: Store, info: ObjectInfo) -> str:
    """Return `Fingerprint.content` of what a store holds.

    Raises:
        ObjectChanged, KeyNotFound: as `chunks`.
    """
    found = xxhash.xxh3_128()
    for chunk in chunks(store, info, _NEAR_BYTES if is_near(store) else CHUNK_BYTES):
        found.update(chunk)
    return found.hexdigest()


def chunks(store: Store, info: ObjectInfo, chunk_bytes: int = CHUNK_BYTES) -> Generator[memoryview]:
    """Yield the bytes of one version of an object, in order, some 32 MiB of them in memory at a time.

    Raises:
        ObjectChanged: it was replaced.
        KeyNotFound: it is gone.
    """
    received = 0
    for start in range(0, info.size_bytes, _SEGMENT_BYTES):
        stop = min(start + _SEGMENT_BYTES, info.size_bytes)
        ranges = [ByteRange(at, min(chunk_bytes, stop - at)) for at in range(start, stop, chunk_bytes)]
        for chunk in store.get_ranges(info.key, ranges, version=info.version):
            received += chunk.nbytes
            yield chunk
    _check_length(store, info, received)


def _check_length(store: Store, info: ObjectInfo, received: int) -> None:
    if received != info.size_bytes:
        raise ObjectChanged(
            f"{info.key!r} in {redact(store.url)} was listed with {info.size_bytes} bytes and has {received}"
        )


def same_bytes(source: Store, one: ObjectInfo, target: Store, other: ObjectInfo) -> bool:
    """Tell whether the first object is the beginning of the second one, or all of it; reads both as far as needed."""
    if one.size_bytes <= CHUNK_BYTES:
        wanted = ByteRange(0, one.size_bytes)
        [found] = target.get_ranges(other.key, [wanted], version=other.version)
        return _digest(whole(source, one)) == _digest(found)
    with closing(ahead(chunks(source, one), 2)) as ours, closing(chunks(target, other)) as theirs:
        return all(_digest(chunk) == _digest(next(theirs)[: chunk.nbytes]) for chunk in ours)


def _digest(data: memoryview) -> bytes:
    return xxhash.xxh3_128_digest(data)  # comparing two memoryviews goes byte by byte in the interpreter


class Fingerprint:
    """Digests of a stream of known length, each of which some store keeps of what it holds.

    A store of the S3 kind names an object by its MD5, or, when it went up in parts, by the MD5 of their MD5s with
    their number. That such a name matches proves what arrived; that it does not proves nothing, as encryption
    changes it.

    Args:
        size_bytes: the length that the stream will have.
        wanted: "md5" and "crc32c", of which the latter needs a package that not everybody has.
    """

    def __init__(self, size_bytes: int, wanted: frozenset[str]) -> None:
        self._all = xxhash.xxh3_128()
        self._single = hashlib.md5(usedforsecurity=False) if "md5" in wanted else None
        self._part_bytes = max(PART_BYTES, -(-size_bytes // _MAX_PARTS))
        self._parts: list[bytes] = []
        self._room = self._part_bytes
        self._crc32c = _crc32c() if "crc32c" in wanted else None

    def update(self, view: memoryview) -> None:
        """Add the bytes that follow."""
        self._all.update(view)
        if self._crc32c is not None and view.nbytes:
            import numpy as np

            self._crc32c.update(np.frombuffer(view, np.uint8))
        while self._single is not None and view.nbytes:
            if not self._room:
                self._parts.append(self._single.digest())
                self._single, self._room = hashlib.md5(usedforsecurity=False), self._part_bytes
            piece, view = view[: self._room], view[self._room :]
            self._single.update(piece)
            self._room -= piece.nbytes

    @property
    def content(self) -> str:
        """A digest for comparing with another stream's."""
        return self._all.hexdigest()

    def proven_by(self, info: ObjectInfo) -> bool | None:
        """Tell whether an object has this content by what its store says of it; None where that says nothing."""
        for name, digest in self._known().items():
            if name in info.checksums:
                return info.checksums[name] == digest
        return True if self._single is not None and info.version == self._entity_tag() else None

    def _known(self) -> dict[str, str]:
        known = {}
        if self._single is not None and not self._parts:
            known["md5"] = self._single.hexdigest()
        if self._crc32c is not None:
            known["crc32c"] = self._crc32c.hexdigest().decode()
        return known

    def _entity_tag(self) -> str:
        assert self._single is not None  # noqa: S101  # it was asked for
        if not self._parts:
            return self._single.hexdigest()
        digests = [*self._parts, self._single.digest()]
        return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"


def _crc32c() -> Any:
    with suppress(ImportError):
        import google_crc32c

        return google_crc32c.Checksum()  # type: ignore[no-untyped-call]  # as it ships
    return None


def checksums_of(info: ObjectInfo) -> frozenset[str]:
    """Return which digest of a stream would prove that it became this object, as far as its store says."""
    if "crc32c" in info.checksums:  # kept of objects of every size, and computed twenty times as fast
        return frozenset({"crc32c"})
    return frozenset({"md5"} if "md5" in info.checksums or _ENTITY_TAG.fullmatch(info.version) else ())


def told_equal(one: ObjectInfo, other: ObjectInfo) -> bool | None:
    """Tell whether two objects of one size are equal by what their stores say; None where that says nothing."""
    for name in sorted(set(one.checksums) & set(other.checksums), reverse=True):  # MD5 says more than CRC32C
        return one.checksums[name] == other.checksums[name]
    return True if one.version == other.version and _ENTITY_TAG.fullmatch(one.version) else None


class Stream:
    """The iterable that a put pulls: an object of another store, its bytes digested as they pass.

    Args:
        store: where it is.
        info: which it is.
        sent: takes up the bytes.
        watch: called with the length of every piece; what it raises ends the put, and nothing is published.
        at_end: called when all bytes have passed and nothing is published yet, and the same goes for it.

    Attributes:
        size_bytes: the whole length, which some stores want to know.
    """

    def __init__(
        self,
        store: Store,
        info: ObjectInfo,
        sent: Fingerprint,
        watch: Callable[[int], None],
        at_end: Callable[[], object],
    ) -> None:
        self._store, self._info, self._sent, self._watch, self._at_end = store, info, sent, watch, at_end
        self.size_bytes = info.size_bytes

    def __iter__(self) -> Iterator[memoryview]:
        with closing(ahead(chunks(self._store, self._info), 1)) as pieces:
            for piece in pieces:
                self._watch(piece.nbytes)
                self._sent.update(piece)
                yield piece
        self._at_end()
