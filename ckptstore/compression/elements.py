"""What a checkpoint's index tells of its bytes: where elements of which size lie, and the checksum of each record."""

from __future__ import annotations

from collections.abc import Sequence

from isal import isal_zlib

from ckptstore.archive.container import FIXED_RECORDS, METADATA, Record, is_marked
from ckptstore.archive.content import PlainContent
from ckptstore.archive.foreign import is_foreign
from ckptstore.archive.index import Contents, contents_of
from ckptstore.archive.tensors import TensorRef
from ckptstore.errors import CorruptCheckpoint, UnsupportedFormat
from ckptstore.objects import ByteRange
from ckptstore.packing import Piece, lay_out, uniform
from ckptstore.packing.layout import Segment

__all__ = ["RecordCheck", "described"]

_LARGEST_WIDTH = 8


class RecordCheck:
    """Checks the records of an archive while its bytes go by, in order."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records
        self._next = 0
        self._crc32 = 0
        self._offset = 0

    def take(self, data: memoryview) -> None:
        """Look at the next bytes.

        Raises:
            CorruptCheckpoint: they end a record, and it does not match its CRC32.
        """
        start, self._offset = self._offset, self._offset + len(data)
        while self._next < len(self._records):
            record = self._records[self._next]
            stop = record.offset + record.size_bytes
            if record.offset > self._offset:
                return
            here = data[max(0, record.offset - start) : max(0, stop - start)]
            self._crc32 = isal_zlib.crc32(here, self._crc32)
            if stop > self._offset:
                return
            self._finish(record)

    def _finish(self, record: Record) -> None:
        if self._crc32 != record.crc32:
            raise CorruptCheckpoint(f"record {record.name} does not match its CRC32; its bytes were changed")
        self._next, self._crc32 = self._next + 1, 0


def described(content: PlainContent) -> tuple[list[Piece], RecordCheck]:
    """Return how a checkpoint is cut for compression, and a check of its records. One or two requests.

    A file of torch.save has no index at its end: its element sizes are tried out.

    Raises:
        UnsupportedFormat: of a newer format, or no checkpoint.
        CorruptCheckpoint: its index is damaged.
    """
    tail = content.tail()
    if is_marked(tail):
        contents = contents_of(content, tail)
        return _pieces(contents), RecordCheck(contents.records)
    if not is_foreign(b"".join(content.read([ByteRange(0, 64)]))):
        raise UnsupportedFormat("it is no checkpoint: it neither ends as one of ckptstore nor begins as one of torch")
    return uniform(content.size_bytes), RecordCheck(())


def _pieces(contents: Contents) -> list[Piece]:
    widths: dict[str, int] = {}

    def note(ref: TensorRef) -> None:
        size = ref.dtype.itemsize // (2 if ref.dtype.is_complex else 1)
        widths.setdefault(ref.record, min(size, _LARGEST_WIDTH))

    contents.state_of(note)
    tensors = [record for record in contents.records if record.name not in {*FIXED_RECORDS, METADATA}]
    segments = [Segment(record.offset, widths.get(record.name, 1)) for record in tensors]
    tail_start = tensors[-1].offset + tensors[-1].size_bytes if tensors else 0
    if segments:  # the first header is too short for a block of its own
        segments[0] = Segment(0, segments[0].width)
    return lay_out(segments, tail_start=tail_start, size_bytes=contents.size_bytes)
