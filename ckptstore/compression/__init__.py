"""Compress old checkpoints, and give the identical bytes back: `.pt` becomes `.pt.zst`, which every load reads."""

from __future__ import annotations

from ckptstore.compression.compressing import compress
from ckptstore.compression.decompressing import decompress
from ckptstore.compression.report import CompressReport, Outcome

__all__ = ["CompressReport", "Outcome", "compress", "decompress"]
