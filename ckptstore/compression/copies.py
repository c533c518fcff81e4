"""Read stored content through and compare it with what it should be."""

from __future__ import annotations

from collections.abc import Callable

import xxhash

from ckptstore.archive.content import Content
from ckptstore.errors import CorruptCheckpoint
from ckptstore.objects import ByteRange

__all__ = ["check_content", "content_digest"]

_PIECE_BYTES = 4 * 1024 * 1024


def content_digest(content: Content, observe: Callable[[memoryview], object] = lambda _: None) -> str:
    """Return the xxh3_128 of content, read in pieces, in hex.

    Args:
        content: what to read.
        observe: is called with each piece, in order.
    """
    digest = xxhash.xxh3_128()
    starts = range(0, content.size_bytes, _PIECE_BYTES)
    for piece in content.read([ByteRange(start, _PIECE_BYTES) for start in starts]):
        digest.update(piece)
        observe(piece)
    return digest.hexdigest()


def check_content(
    content: Content, size_bytes: int, digest: str, observe: Callable[[memoryview], object] = lambda _: None
) -> None:
    """Make sure that content is what was written.

    Raises:
        CorruptCheckpoint: otherwise.
    """
    if content.size_bytes != size_bytes or content_digest(content, observe) != digest:
        raise CorruptCheckpoint(f"{content.key} was read back and is not what was written")
