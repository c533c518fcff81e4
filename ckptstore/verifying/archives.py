"""Check every byte of a checkpoint, whoever wrote it and however it is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import xxhash

from ckptstore import keys
from ckptstore.archive.container import MARKER as ARCHIVE_MARKER
from ckptstore.archive.container import Record, central_directory, ending, is_marked, lay_out, local_header
from ckptstore.archive.content import PlainContent
from ckptstore.archive.crc import crc32
from ckptstore.archive.index import Contents, contents_of
from ckptstore.checkpoints import CHECKPOINT_FORMAT
from ckptstore.errors import CorruptCheckpoint, NewerFormat
from ckptstore.store import ObjectInfo, Store
from ckptstore.verifying.foreign import check_foreign
from ckptstore.verifying.streaming import Checked, streamed

if TYPE_CHECKING:
    from ckptstore.packing import PackedContent

__all__ = ["checked_archive", "checked_packed"]


def checked_archive(store: Store, info: ObjectInfo) -> Checked:
    """Check a `.pt`: every record, the headers and padding between them, the directory, and whose it is."""
    content = PlainContent(store, info)
    tail = content.tail()
    if not is_marked(tail):
        return check_foreign(content)
    check = ArchiveCheck(_contents(content, tail))
    check.belongs_to(info.key)
    for data in streamed(store, info):
        check.feed(data)
        yield data
    check.finish()
    return ""


def checked_packed(store: Store, info: ObjectInfo) -> Checked:
    """Check a `.pt.zst`: every stored block, the index, the digest of the content, and the `.pt` that it is."""
    from ckptstore.packing.coding import decoded

    content = _opened(store, info)
    tail = content.tail()
    check = ArchiveCheck(contents_of(content, tail)) if is_marked(tail) else None
    if check is not None:
        check.belongs_to(info.key)
    digest = xxhash.xxh3_128()
    for block in content.blocks:
        stored = b"".join(streamed(store, info, block.stored_start, block.stored_start + block.stored_bytes))
        data = decoded(stored, block)
        digest.update(data)
        if check is not None:
            check.feed(data)
        yield memoryview(stored)
    if digest.hexdigest() != content.footer.content_digest:
        raise CorruptCheckpoint("its content does not match the digest in its index")
    if check is not None:
        check.finish()
    yield from streamed(store, info, content.footer.index_start)
    return ""


class ArchiveCheck:
    """Compares the bytes of a `.pt`, as they come, with what its verified index says they are.

    Only the index is kept. A flip that would change nothing that is loaded, in a local header or in the padding, is
    found like any other.
    """

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._parts = _parts(contents.records)
        self._position = 0
        self._next()

    def belongs_to(self, key: str) -> None:
        """Make sure that it is what its key says.

        Raises:
            CorruptCheckpoint: it is another experiment's, or of another step, or no checkpoint.
            NewerFormat: a newer version wrote it.
        """
        parsed = keys.parse_key(key)
        if parsed is not None and parsed.step is not None:
            _check_identity(self._contents.state_of(lambda ref: ref), parsed.exp_hash, parsed.step)

    def feed(self, data: memoryview) -> None:
        """Take the next bytes.

        Raises:
            CorruptCheckpoint: they are not what was written.
        """
        while len(data):
            if self._part is None:
                raise CorruptCheckpoint(f"bytes follow its end at {self._position}")
            taken = data[: self._left]
            self._take(taken)
            data = data[len(taken) :]
            self._position += len(taken)
            self._left -= len(taken)
            while self._part is not None and not self._left:
                self._end_of_part()
                self._next()

    def finish(self) -> None:
        """Say that there is nothing more.

        Raises:
            CorruptCheckpoint: there should be.
        """
        if self._part is not None:
            raise CorruptCheckpoint(f"it ends at {self._position}, too early")

    def _next(self) -> None:
        self._part: Record | bytes | None = next(self._parts, None)
        self._left = 0 if self._part is None else _length(self._part)
        self._crc = 0
        while self._part is not None and not self._left:  # a tensor without elements
            self._end_of_part()
            self._part = next(self._parts, None)
            self._left = 0 if self._part is None else _length(self._part)

    def _take(self, data: memoryview) -> None:
        if isinstance(self._part, Record):
            self._crc = crc32(data, self._crc)
        elif isinstance(self._part, bytes):
            done = len(self._part) - self._left
            if self._part[done : done + len(data)] != data:
                raise CorruptCheckpoint(
                    f"between {self._position} and {self._position + len(data)}, outside of its records, are other "
                    "bytes than were written"
                )

    def _end_of_part(self) -> None:
        if isinstance(self._part, Record) and self._crc != self._part.crc32:
            raise CorruptCheckpoint(f"record {self._part.name} does not match its CRC32; its bytes were changed")


def _parts(records: Sequence[Record]) -> Iterator[Record | bytes]:
    slots = lay_out((record.name, record.size_bytes) for record in records)
    for slot, record in zip(slots, records, strict=True):
        yield local_header(slot, record.crc32)
        yield record
    directory = central_directory(slots, [record.crc32 for record in records])
    yield directory + ending(slots, directory)


def _length(part: Record | bytes) -> int:
    return part.size_bytes if isinstance(part, Record) else len(part)


def _contents(content: PlainContent, tail: bytes) -> Contents:
    try:
        return contents_of(content, tail)
    except NewerFormat as newer:
        at = len(tail) - 64 - len(ARCHIVE_MARKER)
        mended = tail[:at] + ARCHIVE_MARKER + tail[-64:]
        raise _flipped_or(newer, lambda: contents_of(content, mended)) from None


def _opened(store: Store, info: ObjectInfo) -> PackedContent:
    from ckptstore.packing import PackedContent  # zstandard takes 15 ms, and few checkpoints are compressed

    try:
        return PackedContent(store, info)
    except NewerFormat as newer:
        raise _flipped_or(newer, lambda: _read_packed_index(store, info)) from None


def _read_packed_index(store: Store, info: ObjectInfo) -> None:
    from ckptstore.packing.container import FOOTER_BYTES, MARKER, read_footer, read_index

    end = b"".join(streamed(store, info, max(0, info.size_bytes - FOOTER_BYTES)))
    footer = read_footer(end[: -len(MARKER)] + MARKER, info.size_bytes)
    index = b"".join(streamed(store, info, footer.index_start))
    read_index(index[: -len(MARKER)] + MARKER, footer)


def _flipped_or(newer: NewerFormat, read: Callable[[], object]) -> CorruptCheckpoint:
    """Tell a flipped digit in a version's marker from a newer version: all else is then as this one writes it."""
    try:
        read()
    except CorruptCheckpoint:
        return newer
    return CorruptCheckpoint("the marker of its version was changed")


def _check_identity(state: Mapping[str, Any], exp_hash: str, step: int) -> None:
    if not isinstance(state.get("model_state_dict"), dict):
        raise CorruptCheckpoint("it holds no model_state_dict; it is not a checkpoint of ckptstore")
    version = state.get("format", CHECKPOINT_FORMAT)
    if not isinstance(version, int) or version > CHECKPOINT_FORMAT:
        raise NewerFormat(f"it has format {version!r}, this is for {CHECKPOINT_FORMAT}; upgrade ckptstore")
    for name, expected in (("exp_hash", exp_hash), ("step", step)):
        if type(state.get(name, expected)) is not type(expected) or state.get(name, expected) != expected:
            raise CorruptCheckpoint(f"it holds {name} {state[name]!r}; it was renamed or copied to this key")
