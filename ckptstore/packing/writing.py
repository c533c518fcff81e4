"""Compress content as a stream of buffers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import xxhash

from ckptstore.objects import Buffer, ByteRange
from ckptstore.packing.coding import EncodedBlock, encoded
from ckptstore.packing.container import Block, index_of
from ckptstore.packing.layout import Piece
from ckptstore.packing.parallel import default_workers, in_order

__all__ = ["Packing"]


class Packing:
    """Content being compressed: an iterable of the buffers of its `.pt.zst`, to be used once.

    Args:
        read: gives the bytes of ranges of the content in order, as `Content.read`.
        pieces: how it is cut.
        level: of zstd, where repetitions pay.
        workers: threads; by default one for each core.
        observe: is called with each piece of the content, in order, in the thread that iterates.
    """

    def __init__(
        self,
        read: Callable[[Iterable[ByteRange]], Iterator[memoryview]],
        pieces: Sequence[Piece],
        *,
        level: int = 3,
        workers: int | None = None,
        observe: Callable[[memoryview], object] = lambda _: None,
    ) -> None:
        self._read = read
        self._pieces = pieces
        self._level = level
        self._workers = workers or default_workers()
        self._observe = observe
        self._digest = xxhash.xxh3_128()
        self._blocks: list[Block] = []
        content_bytes = sum(piece.size_bytes for piece in pieces)
        self.size_bytes = content_bytes + content_bytes // 256 + 4096
        """An upper bound of what comes out, for a store that has to know the size of its parts."""

    @property
    def content_digest(self) -> str:
        """The xxh3_128 of the content so far, in hex."""
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[Buffer]:
        parts = in_order(self._encoded, self._taken(), workers=self._workers)
        for piece, part in zip(self._pieces, parts, strict=True):
            self._blocks.append(self._block(piece, part))
            yield from part.planes
        yield index_of(self._blocks, self.content_digest)

    def _taken(self) -> Iterator[tuple[Piece, memoryview]]:
        ranges = [ByteRange(piece.start, piece.size_bytes) for piece in self._pieces]
        for piece, data in zip(self._pieces, self._read(ranges), strict=True):
            self._digest.update(data)
            self._observe(data)
            yield piece, data

    def _encoded(self, taken: tuple[Piece, memoryview]) -> EncodedBlock:
        piece, data = taken
        return encoded(data, piece.width, self._level)

    def _block(self, piece: Piece, part: EncodedBlock) -> Block:
        stored_start = self._blocks[-1].stored_start + self._blocks[-1].stored_bytes if self._blocks else 0
        planes = tuple(map(len, part.planes))
        return Block(piece.start, piece.size_bytes, part.width, stored_start, planes, part.crc32)
