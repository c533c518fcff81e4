"""The zip container of an archive, both ways: every byte of it but the records' own follows from names, sizes, CRCs.

Records are stored one after the other with nothing between; each begins at a multiple of 64 bytes, because an
extra field pads its local header. That holds CRC and sizes: no data descriptors. Zip64 only where needed::

    local header | record | local header | record | ... | central directory | end records | ckptstore1 <sha256>

Source: APPNOTE.TXT 6.3.10 (PKWARE), sections 4.3 to 4.5. A reader builds the same bytes from what it read and
compares, so there is exactly one sound form of a directory.
"""

from __future__ import annotations

import hashlib
import re
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ckptstore.errors import CorruptCheckpoint, NewerFormat, UnsupportedFormat

ROOT = "archive/"
"""The folder inside the zip that holds the records; torch takes any name."""

METADATA = "data.pkl"
"""The record that comes last, just before the central directory."""

FIXED_RECORDS = {"byteorder": sys.byteorder.encode(), "version": b"3\n"}
"""What torch asks for and what says nothing about the state: the order of bytes, the version of torch's format."""

ALIGNMENT = 64
MARKER = b"ckptstore1 "
ENDING_BYTES = 22 + len(MARKER) + 64
"""Length of the end record with its comment: where the last bytes of the file begin with its signature."""

_ZIP64_ENDING_BYTES = 56 + 20
_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF
CRC_IN_HEADER, CRC_IN_ENTRY = 14, 16
"""Where the CRC32 stands in a local header and in an entry of the central directory: four bytes, little-endian."""

_DATE = 0x21  # 1 January 1980, the first day that zip knows; the bytes depend only on the state
_PADDING_ID = 0x4246  # what torch.save puts there, too

_LOCAL = struct.Struct("<4s5H3I2H")
_ENTRY = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")


@dataclass(frozen=True, slots=True)
class Record:
    """One record of an archive.

    Attributes:
        name: without the zip's folder: "data/0" to "data/N", "byteorder", "version", "data.pkl".
        offset: of its first byte in the object.
        size_bytes: its length.
        crc32: of its bytes.
    """

    name: str
    offset: int
    size_bytes: int
    crc32: int


@dataclass(frozen=True, slots=True)
class Ending:
    """What the last bytes of an archive say.

    Attributes:
        start: offset of the central directory.
        stop: offset of the first byte behind it.
        digest: of the central directory, sha256 in hex.
    """

    start: int
    stop: int
    digest: str


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of a record, known before its bytes are.

    Attributes:
        name: see `Record`.
        header: offset of its local header, where the record before it ends.
        offset: of its first byte, a multiple of 64.
        size_bytes: its length.
    """

    name: str
    header: int
    offset: int
    size_bytes: int

    @property
    def stop(self) -> int:
        """Offset of the first byte behind it."""
        return self.offset + self.size_bytes


def lay_out(sizes: Iterable[tuple[str, int]], start: int = 0) -> list[Slot]:
    """Return the place of each record, given names and sizes in order, and the offset of the first one's header."""
    slots, header = [], start
    for name, size_bytes in sizes:
        fields = _LOCAL.size + len(ROOT) + len(name) + len(_zip64(size_bytes, size_bytes)) + 4
        slots.append(Slot(name, header, -(-(header + fields) // ALIGNMENT) * ALIGNMENT, size_bytes))
        header = slots[-1].stop
    return slots


def local_header(slot: Slot, crc32: int) -> bytes:
    """Return what stands before a record, up to its first byte."""
    name, wide = (ROOT + slot.name).encode(), _zip64(slot.size_bytes, slot.size_bytes)
    size = min(slot.size_bytes, _MAX32)
    padding = slot.offset - slot.header - _LOCAL.size - len(name) - len(wide) - 4
    extra = wide + struct.pack("<2H", _PADDING_ID, padding) + bytes(padding)
    fixed = _LOCAL.pack(b"PK\3\4", _version(wide), 0, 0, 0, _DATE, crc32, size, size, len(name), len(extra))
    return fixed + name + extra


def central_directory(slots: Sequence[Slot], crcs: Iterable[int]) -> bytes:
    """Return the directory of all records."""
    return b"".join(directory_entry(slot, crc32) for slot, crc32 in zip(slots, crcs, strict=True))


def ending(slots: Sequence[Slot], directory: bytes) -> bytes:
    """Return what stands behind the directory."""
    start = slots[-1].stop
    digest = hashlib.sha256(directory).hexdigest().encode()
    return (
        _zip64_ending(start, len(directory), len(slots))
        + _END.pack(
            b"PK\5\6",
            0,
            0,
            min(len(slots), _MAX16),
            min(len(slots), _MAX16),
            min(len(directory), _MAX32),
            min(start, _MAX32),
            len(MARKER) + len(digest),
        )
        + MARKER
        + digest
    )


def is_marked(tail: bytes) -> bool:
    """Whether the last bytes of an object are those of an archive that ckptstore wrote, sound or not."""
    return len(tail) >= ENDING_BYTES and tail[-ENDING_BYTES:].startswith(b"PK\5\6")


def read_ending(tail: bytes, size_bytes: int) -> Ending:
    """Find the central directory of a marked object, from its last bytes.

    Raises:
        NewerFormat: written by a newer version.
        UnsupportedFormat: marked by something else.
        CorruptCheckpoint: the ending contradicts itself.
    """
    comment = tail[-ENDING_BYTES + _END.size :]
    if re.match(rb"ckptstore[0-9]+ ", comment) and not comment.startswith(MARKER):
        raise NewerFormat(f"marked {comment.split()[0].decode()!r}, which a newer version wrote; upgrade ckptstore")
    if not comment.startswith(MARKER):
        raise UnsupportedFormat(f"marked {comment[: len(MARKER)]!r}, not {MARKER!r}")
    stop = size_bytes - ENDING_BYTES
    length, start = _END.unpack(tail[-ENDING_BYTES:][: _END.size])[5:7]
    wide = tail[-ENDING_BYTES - _ZIP64_ENDING_BYTES : -ENDING_BYTES]
    if wide.startswith(b"PK\6\6") and len(wide) == _ZIP64_ENDING_BYTES:
        stop -= _ZIP64_ENDING_BYTES
        length, start = _END64.unpack(wide[: _END64.size])[8:10]
    if start + length != stop:
        raise CorruptCheckpoint("the end of the file does not point to its directory")
    return Ending(start, stop, comment[len(MARKER) :].decode("ascii", "replace"))


def metadata_start(tail: bytes, behind: int) -> int:
    """Return where the last record's local header begins.

    Args:
        tail: the last bytes of the object.
        behind: how many of them lie behind the directory.

    Raises:
        CorruptCheckpoint: the directory does not end with that record.
    """
    for extra in (0, 12):
        entry = tail[: len(tail) - behind][-_ENTRY.size - len(ROOT) - len(METADATA) - extra :]
        if entry.startswith(b"PK\1\2") and entry[_ENTRY.size :].startswith((ROOT + METADATA).encode()):
            return int.from_bytes(entry[-8:], "little") if extra else int(_ENTRY.unpack(entry[: _ENTRY.size])[-1])
    raise CorruptCheckpoint(f"its directory does not end with {METADATA}")


def read_directory(directory: bytes, behind: bytes) -> tuple[Record, ...]:
    """Return the records of a central directory.

    Args:
        directory: its bytes.
        behind: the bytes from there to the end of the object.

    Raises:
        CorruptCheckpoint: a byte of either is not what ckptstore would have written for these records.
    """
    try:
        entries = list(_entries(directory))
        slots = lay_out((name, size_bytes) for name, size_bytes, _ in entries)
        crcs = [crc32 for _, _, crc32 in entries]
        sound = central_directory(slots, crcs) == directory and ending(slots, directory) == behind
    except (struct.error, ValueError, IndexError) as error:
        raise CorruptCheckpoint(f"its directory cannot be read ({error})") from None
    if not sound:
        raise CorruptCheckpoint("its directory is not the one that was written: its digest or its layout differs")
    return tuple(Record(s.name, s.offset, s.size_bytes, crc32) for s, crc32 in zip(slots, crcs, strict=True))


def directory_entry(slot: Slot, crc32: int) -> bytes:
    """Return what the directory says of a record."""
    name, wide = (ROOT + slot.name).encode(), _zip64(slot.size_bytes, slot.size_bytes, slot.header)
    size, header, version = min(slot.size_bytes, _MAX32), min(slot.header, _MAX32), _version(wide)
    fixed = _ENTRY.pack(
        b"PK\1\2", version, version, 0, 0, 0, _DATE, crc32, size, size, len(name), len(wide), 0, 0, 0, 0, header
    )
    return fixed + name + wide


def _entries(directory: bytes) -> Iterator[tuple[str, int, int]]:
    position = 0
    while position < len(directory):
        fields = _ENTRY.unpack_from(directory, position)
        crc32, size_bytes, name_length, extra_length = fields[7], fields[8], fields[10], fields[11]
        position += _ENTRY.size
        name = directory[position : position + name_length].decode("ascii").removeprefix(ROOT)
        if size_bytes == _MAX32:
            size_bytes = struct.unpack_from("<Q", directory, position + name_length + 4)[0]
        position += name_length + extra_length
        yield name, size_bytes, crc32


def _zip64(*numbers: int) -> bytes:
    wide = [number for number in numbers if number >= _MAX32]
    return struct.pack(f"<2H{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""


def _version(wide: bytes) -> int:
    return 45 if wide else 20


def _zip64_ending(start: int, length: int, count: int) -> bytes:
    if start < _MAX32 and length < _MAX32 and count < _MAX16:
        return b""
    end = _END64.pack(b"PK\6\6", _END64.size - 12, 45, 45, 0, 0, count, count, length, start)
    return end + _LOCATOR.pack(b"PK\6\7", 0, start + length, 1)
