"""Read compressed content by ranges: only the blocks that hold them, decompressed in threads."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby

import numpy as np

from ckptstore.archive.content import Foresight, brief
from ckptstore.errors import CorruptCheckpoint
from ckptstore.objects import Buffer, ByteRange, ObjectInfo
from ckptstore.packing.coding import decoded
from ckptstore.packing.container import Block, Footer, read_footer, read_index
from ckptstore.packing.parallel import default_workers, in_order
from ckptstore.receiving import filled
from ckptstore.store import Store

__all__ = ["PackedContent"]

_LEAST_TAIL_BYTES = 4 * 1024
_NOWHERE = Block(0, 0, 1, 0, (), 0)


class PackedContent:
    """The content of a `.pt.zst`, by ranges of what was compressed; a `Content`.

    Opening it is one request for as many of the last bytes as foreseen, a second one where its index is longer: 256
    KiB hold that of some 10,000 blocks. What they hold is kept and not asked for again: usually the index of a
    checkpoint too.

    Raises:
        KeyNotFound, ObjectChanged: there is no such object, or no longer of that version.
        NewerFormat: written by a newer version.
        CorruptCheckpoint: truncated, changed, or never a `.pt.zst`.
    """

    def __init__(self, store: Store, info: ObjectInfo, foresight: Foresight = brief) -> None:
        self.store = store
        self.key = info.key
        self.version = info.version
        self.stored_bytes = info.size_bytes
        self._foresight = foresight
        self._held_start, self._held = self._read_suffix(max(0, info.size_bytes - foresight(info.size_bytes)))
        self.footer: Footer = read_footer(self._held, info.size_bytes)
        if self.footer.index_start < self._held_start:
            start, more = self._read_suffix(self.footer.index_start)
            self._held_start, self._held = start, more
        index = self._held[self.footer.index_start - self._held_start :]
        self.blocks: Sequence[Block] = read_index(index, self.footer)
        self._starts = [block.start for block in self.blocks]

    @property
    def size_bytes(self) -> int:
        """The length of the content."""
        return self.footer.content_bytes

    def tail(self) -> bytes:
        """Return the last bytes of the content, at least 4 KiB of what there is; no request where they are held."""
        start, most = self.size_bytes, self._foresight(self.size_bytes)
        for block in reversed(self.blocks):
            read = self.size_bytes - start
            cheap = self._is_held(block) and read + block.size_bytes <= most
            if read >= _LEAST_TAIL_BYTES and not cheap:
                break
            start = block.start
        return b"".join(self.read([ByteRange(start)]))

    def read(self, ranges: Iterable[ByteRange]) -> Iterator[memoryview]:
        """Yield the bytes of each range, in the order asked; what lies past the end is left out.

        Neighbouring ranges share a block that is decompressed once.

        Raises:
            KeyNotFound, ObjectChanged: the object was deleted or replaced.
            CorruptCheckpoint: a block is not what was written.
        """
        spans = [wanted.within(self.size_bytes) for wanted in ranges]
        needed = [self._covering(*span) for span in spans]
        wanted = [self.blocks[index] for index, _ in groupby(chain.from_iterable(needed))]
        stored = zip(self._stored(wanted), wanted, strict=True)
        contents = zip(wanted, in_order(lambda item: decoded(*item), stored, workers=default_workers()), strict=True)
        block, content = _NOWHERE, memoryview(b"")
        for (start, stop), indexes in zip(spans, needed, strict=True):
            gathered = np.empty(stop - start, np.uint8).data
            for index in indexes:
                if block is not self.blocks[index]:
                    block, content = next(contents)
                first, last = max(start, block.start), min(stop, block.stop)
                gathered[first - start : last - start] = content[first - block.start : last - block.start]
            yield gathered

    def read_into(self, ranges: Iterable[ByteRange], memory: Iterable[memoryview]) -> Iterator[memoryview]:
        """Yield each piece of memory with the bytes of its range; as `Store.get_ranges_into`; raises as `read`."""
        return filled(self.read(ranges), memory)

    def _covering(self, start: int, stop: int) -> range:
        if start >= stop:
            return range(0)
        return range(bisect_right(self._starts, start) - 1, bisect_right(self._starts, stop - 1))

    def _stored(self, blocks: Sequence[Block]) -> Iterator[Buffer]:
        ranges = [ByteRange(block.stored_start, block.stored_bytes) for block in blocks if not self._is_held(block)]
        fetched = self.store.get_ranges(self.key, ranges, version=self.version) if ranges else iter(())
        for block in blocks:
            if self._is_held(block):
                yield self._held[block.stored_start - self._held_start :][: block.stored_bytes]
            else:
                yield next(fetched)

    def _is_held(self, block: Block) -> bool:
        return block.stored_start >= self._held_start

    def _read_suffix(self, start: int) -> tuple[int, memoryview]:
        wanted = ByteRange(start, self.stored_bytes - start)
        data = memoryview(b"".join(self.store.get_ranges(self.key, [wanted], version=self.version)))
        if len(data) != wanted.length:
            raise CorruptCheckpoint(f"{len(data)} bytes came where {wanted.length} were asked for")
        return start, data
