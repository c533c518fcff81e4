"""One block, both ways: its bytes grouped into planes, and each plane compressed by what suits it.

A plane of sign and exponent has few values in no order: there it pays to look for repetitions only where they are
cheap to find, and to spend the time on the entropy of each byte. On planes of mantissa nothing pays, and the same
method finds that out at 5 GB/s. Only where a sample shows repetitions does the general method run.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import zstandard
from isal import isal_zlib

from ckptstore.errors import CorruptCheckpoint
from ckptstore.objects import Buffer
from ckptstore.packing.container import WIDTHS, Block, plane_bytes

__all__ = ["EncodedBlock", "decoded", "encoded"]

_Bytes = npt.NDArray[np.uint8]

_SAMPLE_BYTES = 16 * 1024
_WORTHWHILE = 0.95
_held = threading.local()  # a compressor serves one thread at a time


@dataclass(frozen=True, slots=True)
class EncodedBlock:
    """A block as it is stored.

    Attributes:
        width: bytes of one element.
        planes: the compressed planes.
        crc32: of all of them together.
    """

    width: int
    planes: tuple[bytes, ...]
    crc32: int


def encoded(data: Buffer, width: int | None, level: int) -> EncodedBlock:
    """Return some content compressed.

    Args:
        data: the content.
        width: bytes of one element; None tries which size compresses best.
        level: of zstd, where a plane has repetitions.
    """
    content = np.frombuffer(data, np.uint8)
    width = _best_width(content) if width is None else width
    planes = tuple(_compressed(plane, level) for plane in _split(content, width))
    crc32 = 0
    for plane in planes:
        crc32 = isal_zlib.crc32(plane, crc32)
    return EncodedBlock(width, planes, crc32)


def decoded(stored: Buffer, block: Block) -> memoryview:
    """Return the content of a block.

    Raises:
        CorruptCheckpoint: these are not the bytes that were stored.
    """
    if len(stored) != block.stored_bytes or isal_zlib.crc32(stored) != block.crc32:
        raise CorruptCheckpoint(f"the block at {block.stored_start} does not match its CRC32; its bytes were changed")
    view, content = memoryview(stored), np.empty(block.size_bytes, np.uint8)
    whole = block.size_bytes // block.width * block.width
    elements = content[:whole].reshape(-1, block.width)
    lengths = plane_bytes(block.size_bytes, block.width)
    for number, (stored_bytes, length) in enumerate(zip(block.planes, lengths, strict=True)):
        plane = _decompressed(view[:stored_bytes], length, block)
        elements[:, number] = plane[: len(elements)]
        view = view[stored_bytes:]
    content[whole:] = plane[len(elements) :]  # behind the last whole element: in the last plane
    return content.data


def _split(content: _Bytes, width: int) -> list[_Bytes]:
    whole = len(content) // width * width
    elements = content[:whole].view(f"<u{width}")
    planes = [(elements >> (8 * number)).astype(np.uint8) for number in range(width)] if width > 1 else [content]
    if whole < len(content):
        planes[-1] = np.concatenate([planes[-1], content[whole:]])
    return planes


def _best_width(content: _Bytes) -> int:
    middle = len(content) // 2 // max(WIDTHS) * max(WIDTHS)
    sample = content[middle:][: 2 * _SAMPLE_BYTES]
    entropy, _ = _compressors(1)
    return min(WIDTHS, key=lambda width: sum(len(entropy.compress(plane.data)) for plane in _split(sample, width)))


def _compressed(plane: _Bytes, level: int) -> bytes:
    entropy, general = _compressors(level)
    sample = plane[len(plane) // 2 :][:_SAMPLE_BYTES].data
    pays = len(general.compress(sample)) < _WORTHWHILE * len(entropy.compress(sample))
    return (general if pays else entropy).compress(plane.data)


def _compressors(level: int) -> tuple[zstandard.ZstdCompressor, zstandard.ZstdCompressor]:
    if getattr(_held, "level", None) != level:
        # 64 entries of hash and matches of 7 bytes: runs are found, and little time goes into anything else
        fast = zstandard.ZstdCompressionParameters.from_level(
            1, strategy=zstandard.STRATEGY_FAST, min_match=7, hash_log=6
        )
        _held.pair = (zstandard.ZstdCompressor(compression_params=fast), zstandard.ZstdCompressor(level=level))
        _held.level = level
    pair: tuple[zstandard.ZstdCompressor, zstandard.ZstdCompressor] = _held.pair
    return pair


def _decompressed(frame: memoryview, length: int, block: Block) -> _Bytes:
    try:
        if zstandard.frame_content_size(frame) != length:  # what decompress allocates, whatever it is told
            raise CorruptCheckpoint(f"the block at {block.stored_start} is not of the size that the index gives")
        data = _decompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise CorruptCheckpoint(f"the block at {block.stored_start} cannot be decompressed ({error})") from None
    return np.frombuffer(data, np.uint8)


def _decompressor() -> zstandard.ZstdDecompressor:
    if not hasattr(_held, "decompressor"):
        _held.decompressor = zstandard.ZstdDecompressor()
    decompressor: zstandard.ZstdDecompressor = _held.decompressor
    return decompressor
