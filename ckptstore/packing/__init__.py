"""The `.pt.zst` container: bytes compressed in blocks that can be read one by one; `container` has its format."""

from __future__ import annotations

from ckptstore.packing.container import Block
from ckptstore.packing.layout import Piece, lay_out, uniform
from ckptstore.packing.reading import PackedContent
from ckptstore.packing.writing import Packing

__all__ = ["Block", "PackedContent", "Packing", "Piece", "lay_out", "uniform"]
