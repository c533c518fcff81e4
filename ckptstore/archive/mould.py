"""What one save finds out about a state and the next one need not: with it, a save is little more than a copy."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch

from ckptstore.archive.blueprint import Blueprint, Located
from ckptstore.archive.flat import Flat
from ckptstore.archive.image import Image, Stream
from ckptstore.archive.layout import COPY_BELOW_BYTES, Layout
from ckptstore.archive.pickling import pickled
from ckptstore.archive.plain import savable
from ckptstore.archive.sections import SectionCache
from ckptstore.errors import UnsavableState

__all__ = ["Allocate", "CopyFromDevice", "Mould", "fit"]

MAX_METADATA_BYTES = 2**30

Allocate: TypeAlias = Callable[[int, bool], torch.Tensor]
"""Gives so many bytes of CPU memory as a uint8 tensor, pinned or not."""

CopyFromDevice: TypeAlias = Callable[[torch.Tensor, torch.UntypedStorage], None]
"""Fills a uint8 tensor in CPU memory with a storage of another device, now or later."""

# That of ctypes itself lets other threads run during each copy, however small.
_memmove = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)(
    ctypes.cast(ctypes.memmove, ctypes.c_void_p).value or 0
)


class Mould:
    """The shape of a state as a file: everything but the values of its tensors and what is not in tensors.

    Args:
        blueprint: how its tensors lie.
    """

    def __init__(self, blueprint: Blueprint) -> None:
        self.blueprint = blueprint
        self.layout = Layout(blueprint.sizes)
        self._sections = SectionCache(blueprint.refs)
        sizes, devices = blueprint.sizes, blueprint.devices
        near = [number for number, device in enumerate(devices) if device.type == "cpu"]
        self._small = [number for number in near if 0 < sizes[number] < COPY_BELOW_BYTES]
        self._large = [number for number in near if sizes[number] >= COPY_BELOW_BYTES]
        self._far = [number for number, device in enumerate(devices) if device.type != "cpu" and sizes[number]]
        self._small_sizes = [sizes[number] for number in self._small]

    def image(self, allocate: Allocate) -> Image:
        """Return memory for a copy; pinned where something comes from a CUDA device."""
        pinned = {self.layout.piece_of(n) for n in self._far if self.blueprint.devices[n].type == "cuda"}
        pieces = self.layout.pieces
        return Image(self.layout, [allocate(piece.size_bytes, n in pinned) for n, piece in enumerate(pieces)])

    def fill(self, image: Image, located: Located, copy_from_device: CopyFromDevice) -> None:
        """Copy every record into an image."""
        targets = map(image.addresses.__getitem__, self._small)
        sources = map(located.addresses.__getitem__, self._small)
        deque(map(_memmove, targets, sources, self._small_sizes), maxlen=0)
        for number in self._large:
            image.record(number).copy_(_bytes_of(located.tensors[number]))
        for number in self._far:
            copy_from_device(image.record(number), located.tensors[number].untyped_storage())

    def stream(self, flat: Flat, image: Image) -> Stream:
        """Return the file of a state whose records are in an image.

        Raises:
            UnsavableState: over 1 GiB of it is not in tensors.
        """
        return Stream(image, self.metadata(flat))

    def metadata(self, flat: Flat) -> bytes:
        """Return the last record of the file: what is not in tensors, and where those lie.

        Raises:
            UnsavableState: it is over 1 GiB.
        """
        metadata = pickled(flat.unfold(self.blueprint.refs), self.blueprint, self._sections)
        if len(metadata) > MAX_METADATA_BYTES:
            raise UnsavableState(f"state has {len(metadata)} bytes outside of tensors; save large data as tensors")
        return metadata


def fit(flat: Flat, state: Mapping[str, Any], last: Mould | None) -> tuple[Mould, Located]:
    """Return where a state's tensors are, and the last mould where it fits, else a new one.

    Raises:
        UnsavableState: a tensor cannot be saved.
    """
    located = last.blueprint.locate(flat.tensors) if last else None
    if last and located:
        return last, located
    try:
        blueprint, located = Blueprint.drawn(flat.tensors)
    except UnsavableState:
        savable(state)  # the same error, with the path to what it is about
        raise
    return Mould(blueprint), located


def _bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty(0, dtype=torch.uint8, device="cpu").set_(tensor.untyped_storage())
