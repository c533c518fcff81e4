"""What a checkpoint's index tells of its bytes: where elements of which size lie, and what each byte has to be."""

from __future__ import annotations

from dataclasses import dataclass

from ckptstore.archive.container import FIXED_RECORDS, METADATA, is_marked
from ckptstore.archive.content import PlainContent
from ckptstore.archive.dtypes import DTYPES
from ckptstore.archive.foreign import is_foreign
from ckptstore.archive.index import Contents, contents_of
from ckptstore.archive.tensors import TensorRef
from ckptstore.errors import UnsupportedFormat
from ckptstore.objects import ByteRange
from ckptstore.packing import Piece, lay_out, uniform
from ckptstore.packing.layout import Segment
from ckptstore.verifying.archives import ArchiveCheck
from ckptstore.verifying.foreign import check_foreign

__all__ = ["Described", "described"]

_LARGEST_WIDTH = 8


@dataclass(frozen=True, slots=True)
class Described:
    """What is known of a checkpoint before it is compressed.

    Attributes:
        pieces: how it is cut.
        check: takes its bytes, in order, and compares them with its index; None for a file of torch.save, which has
            none and was read through already.
    """

    pieces: list[Piece]
    check: ArchiveCheck | None

    def observe(self, data: memoryview) -> None:
        """Look at the next bytes.

        Raises:
            CorruptCheckpoint: they are not what was written.
        """
        if self.check is not None:
            self.check.feed(data)


def described(content: PlainContent) -> Described:
    """Return how a checkpoint is cut for compression, and a check of its bytes. One or two requests.

    A file of torch.save has no index at its end: it is read through, and its element sizes are tried out later.

    Raises:
        UnsupportedFormat: of a newer format, or no checkpoint.
        CorruptCheckpoint: it is damaged, as far as its index or torch.save's checksums tell.
    """
    tail = content.tail()
    if is_marked(tail):
        contents = contents_of(content, tail)
        return Described(_pieces(contents), ArchiveCheck(contents))
    if not is_foreign(b"".join(content.read([ByteRange(0, 64)]))):
        raise UnsupportedFormat("it is no checkpoint: it neither ends as one of ckptstore nor begins as one of torch")
    check_foreign(content)
    return Described(uniform(content.size_bytes), None)


def _pieces(contents: Contents) -> list[Piece]:
    widths: dict[str, int] = {}

    def note(ref: TensorRef) -> None:
        size = ref.itemsize // DTYPES[ref.dtype_name].numbers
        widths.setdefault(ref.record, min(size, _LARGEST_WIDTH))

    contents.state_of(note)
    tensors = [record for record in contents.records if record.name not in {*FIXED_RECORDS, METADATA}]
    segments = [Segment(record.offset, widths.get(record.name, 1)) for record in tensors]
    tail_start = tensors[-1].offset + tensors[-1].size_bytes if tensors else 0
    if segments:  # the first header is too short for a block of its own
        segments[0] = Segment(0, segments[0].width)
    return lay_out(segments, tail_start=tail_start, size_bytes=contents.size_bytes)
