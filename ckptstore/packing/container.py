"""The format of a `.pt.zst`, both ways: blocks of compressed content, and an index at the end that finds each.

::

    plane | plane | ... | plane | skippable frame of zstd: entry | entry | ... | footer

Each block of the content, at most 16 MiB, is cut into planes: for elements of 4 bytes the first bytes of all, then
the second bytes, and so on; each plane is a zstd frame of its own. What lies behind the last whole element belongs to
the last plane. An entry says how long a block is, its element size, the CRC32 of what is stored of it, and the length
of each plane. The footer holds the digest of the content, and the sha256 of entries and footer: as every stored byte
is under one of the checksums, the last bytes identify the whole file. All numbers are little-endian.

Sources: RFC 8878 (zstd frames, skippable frames, 3.1.2); the grouping of bytes is the byte shuffle of HDF5 and Blosc.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ckptstore.errors import CorruptCheckpoint, NewerFormat
from ckptstore.objects import Buffer

__all__ = ["FOOTER_BYTES", "MARKER", "MAX_BLOCK_BYTES", "WIDTHS", "Block", "Footer", "index_of", "plane_bytes"]
__all__ += ["read_footer", "read_index"]

MAX_BLOCK_BYTES = 16 * 1024 * 1024
"""No reader allocates more for one block, whatever an index says."""

WIDTHS = (1, 2, 4, 8)
"""The element sizes that there are; 16 bytes, a complex128, are two of 8."""

MARKER = b"ckptstore-zst 1\n"
_ANY_MARKER = re.compile(rb"ckptstore-zst +[0-9]+\n")
_SKIPPABLE = 0x184D2A53

_HEADER = struct.Struct("<2I")
_ENTRY = struct.Struct("<2IB")
_FACTS = struct.Struct("<16s2Q2I")
FOOTER_BYTES = _FACTS.size + 32 + len(MARKER)


@dataclass(frozen=True, slots=True)
class Block:
    """Some content and where it is stored.

    Attributes:
        start: offset of its first byte in the content.
        size_bytes: how much content it is.
        width: bytes of one element; it has as many planes.
        stored_start: offset of its first byte in the file.
        planes: the stored length of each plane.
        crc32: of its stored bytes.
    """

    start: int
    size_bytes: int
    width: int
    stored_start: int
    planes: tuple[int, ...]
    crc32: int

    @property
    def stop(self) -> int:
        """Offset of the first byte behind it in the content."""
        return self.start + self.size_bytes

    @property
    def stored_bytes(self) -> int:
        """How long it is in the file."""
        return sum(self.planes)


@dataclass(frozen=True, slots=True)
class Footer:
    """The last bytes of the file.

    Attributes:
        content_digest: xxh3_128 of the content, in hex.
        content_bytes: its length.
        index_start: offset of the skippable frame.
        count: how many blocks there are.
        entries_bytes: the length of all entries.
        digest: sha256 of entries and footer; it identifies the file.
    """

    content_digest: str
    content_bytes: int
    index_start: int
    count: int
    entries_bytes: int
    digest: str


def plane_bytes(size_bytes: int, width: int) -> list[int]:
    """Return how much content is in each plane of a block."""
    each = size_bytes // width
    return [each] * (width - 1) + [each + size_bytes % width]


def index_of(blocks: Sequence[Block], content_digest: str) -> bytes:
    """Return what stands behind the last block: the skippable frame with entries and footer."""
    entries = b"".join(_entry(block) for block in blocks)
    content_bytes, start = (blocks[-1].stop, _stored_stop(blocks[-1])) if blocks else (0, 0)
    facts = _FACTS.pack(bytes.fromhex(content_digest), content_bytes, start, len(blocks), len(entries))
    footer = facts + hashlib.sha256(entries + facts + MARKER).digest() + MARKER
    return _HEADER.pack(_SKIPPABLE, len(entries) + len(footer)) + entries + footer


def read_footer(tail: Buffer, stored_bytes: int) -> Footer:
    """Return what the last bytes of a file say.

    Raises:
        NewerFormat: written by a newer version.
        CorruptCheckpoint: there is no such footer: truncated, changed, or another file.
    """
    footer = bytes(tail[-FOOTER_BYTES:])
    marker = footer[-len(MARKER) :]
    if len(footer) < FOOTER_BYTES or not _ANY_MARKER.fullmatch(marker):
        raise CorruptCheckpoint("it does not end as a compressed checkpoint does: truncated, or another file")
    if marker != MARKER:
        raise NewerFormat(f"marked {marker.strip().decode()!r}, which a newer version wrote; upgrade ckptstore")
    content_digest, content_bytes, start, count, entries_bytes = _FACTS.unpack(footer[: _FACTS.size])
    if start + _HEADER.size + entries_bytes + FOOTER_BYTES != stored_bytes:
        raise CorruptCheckpoint("the end of the file does not point to its index")
    digest = footer[_FACTS.size : -len(MARKER)].hex()
    return Footer(content_digest.hex(), content_bytes, start, count, entries_bytes, digest)


def read_index(index: Buffer, footer: Footer) -> list[Block]:
    """Return the blocks that an index lists.

    Args:
        index: the bytes from the start of the skippable frame to the end of the file.
        footer: their last bytes, read.

    Raises:
        CorruptCheckpoint: a byte is not what was written, or the blocks do not make up the content.
    """
    data = bytes(index)
    header, entries, end = data[: _HEADER.size], data[_HEADER.size : -FOOTER_BYTES], data[-FOOTER_BYTES:]
    digest = hashlib.sha256(entries + end[: _FACTS.size] + MARKER).hexdigest()
    if digest != footer.digest or header != _HEADER.pack(_SKIPPABLE, len(entries) + FOOTER_BYTES):
        raise CorruptCheckpoint("its index does not match its digest; its bytes were changed")
    try:
        blocks = list(_blocks(entries))
    except struct.error as error:
        raise CorruptCheckpoint(f"its index cannot be read ({error})") from None
    _check(blocks, footer)
    return blocks


def _check(blocks: Sequence[Block], footer: Footer) -> None:
    ends = (blocks[-1].stop, _stored_stop(blocks[-1])) if blocks else (0, 0)
    if ends != (footer.content_bytes, footer.index_start) or len(blocks) != footer.count:
        raise CorruptCheckpoint("the blocks of its index do not make up its content")
    if not all(0 < block.size_bytes <= MAX_BLOCK_BYTES for block in blocks):
        raise CorruptCheckpoint("its index has an empty block, or one larger than this version writes")


def _entry(block: Block) -> bytes:
    planes = struct.pack(f"<{len(block.planes)}I", *block.planes)
    return _ENTRY.pack(block.size_bytes, block.crc32, block.width) + planes


def _blocks(entries: bytes) -> Iterator[Block]:
    position, start, stored_start = 0, 0, 0
    while position < len(entries):
        size_bytes, crc32, width = _ENTRY.unpack_from(entries, position)
        if width not in WIDTHS:
            raise CorruptCheckpoint(f"its index has elements of {width} bytes")
        planes = struct.unpack_from(f"<{width}I", entries, position + _ENTRY.size)
        position += _ENTRY.size + 4 * width
        yield Block(start, size_bytes, width, stored_start, planes, crc32)
        start, stored_start = start + size_bytes, stored_start + sum(planes)


def _stored_stop(block: Block) -> int:
    return block.stored_start + block.stored_bytes
