"""Which bytes the answer to a ranged read holds, and whether they are those that were asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ckptstore.objects import ByteRange
from ckptstore_backends._transfer import OtherRange

# https://www.rfc-editor.org/rfc/rfc9110#name-content-range
_CONTENT_RANGE = re.compile(r"bytes (?P<first>\d{1,19})-(?P<last>\d{1,19})/(?P<total>\d{1,19})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Extent:
    """Where the bytes of an answer lie in their object.

    Attributes:
        start: offset of the first.
        size_bytes: how many there are.
        total_bytes: the length of the whole object.
    """

    start: int
    size_bytes: int
    total_bytes: int

    def check(self, wanted: ByteRange, asked: str) -> None:
        """Make sure that everything asked for is there; more may be, as from a server that sends whole objects.

        Raises:
            OtherRange: it is not; asked says what was asked for, and where: "get 'k' in s3://bucket".
        """
        first, stop = wanted.within(self.total_bytes)
        end = self.start + self.size_bytes
        if not (self.start <= first and stop <= end <= self.total_bytes):
            raise OtherRange(
                f"cannot {asked}: the store answered bytes {self.start} to {end} of {self.total_bytes} in place of "
                f"{first} to {stop}; try again, or ask its operator"
            )


def told_extent(content_range: str | None, size_bytes: int, asked: str) -> Extent:
    """Read where a body of so many bytes lies.

    Args:
        content_range: the header; None when the server sent the whole object.
        size_bytes: the length of the body.
        asked: for the message.

    Raises:
        OtherRange: the header cannot be read, or tells another length than the body has.
    """
    if content_range is None:
        return Extent(0, size_bytes, size_bytes)
    told = _CONTENT_RANGE.fullmatch(content_range)
    if told is None or int(told["last"]) - int(told["first"]) + 1 != size_bytes:
        raise OtherRange(
            f"cannot {asked}: the store answered {size_bytes} bytes as {content_range[:80]!r}; "
            "try again, or ask its operator"
        )
    return Extent(int(told["first"]), size_bytes, int(told["total"]))
