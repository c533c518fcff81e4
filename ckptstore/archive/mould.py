"""What one save finds out about a state and the next one need not: with it, a save is little more than a copy."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, TypeAlias

import torch

from ckptstore.archive.blueprint import Blueprint, Located
from ckptstore.archive.copying import WORTH_A_THREAD_BYTES, copied_bit_for_bit, copy_memory, copy_tensors
from ckptstore.archive.flat import Flat
from ckptstore.archive.image import Image, Stream
from ckptstore.archive.layout import COPY_BELOW_BYTES, Layout
from ckptstore.archive.pickling import pickled
from ckptstore.archive.plain import savable
from ckptstore.archive.sections import SectionCache
from ckptstore.archive.tensors import TensorRef
from ckptstore.errors import UnsavableState

__all__ = ["Allocate", "CopyFromDevice", "Mould", "fit"]

MAX_METADATA_BYTES = 2**30

Allocate: TypeAlias = Callable[[int, bool], torch.Tensor]
"""Gives so many bytes of CPU memory as a uint8 tensor, pinned or not."""

CopyFromDevice: TypeAlias = Callable[[torch.Tensor, torch.UntypedStorage], None]
"""Fills a uint8 tensor in CPU memory with a storage of another device, now or later."""


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
        small = [number for number in near if 0 < sizes[number] < COPY_BELOW_BYTES]
        self._whole = self._whole_tensors(small)
        self._small = sorted({*small} - self._whole.keys())
        self._large = [number for number in near if sizes[number] >= COPY_BELOW_BYTES]
        self._far = [number for number, device in enumerate(devices) if device.type != "cpu" and sizes[number]]
        self._small_sizes = [sizes[number] for number in self._small]
        running = list(accumulate(sizes[number] for number in self._whole))
        self._half = bisect(running, running[-1] // 2) if running else 0

    def image(self, allocate: Allocate) -> Image:
        """Return memory for a copy; pinned where something comes from a CUDA device."""
        pinned = {self.layout.piece_of(n) for n in self._far if self.blueprint.devices[n].type == "cuda"}
        pieces = self.layout.pieces
        buffers = [allocate(piece.size_bytes, n in pinned) for n, piece in enumerate(pieces)]
        return Image(self.layout, buffers, self._whole)

    def fill(self, image: Image, located: Located, copy_from_device: CopyFromDevice) -> None:
        """Copy every record into an image."""
        if self._whole:
            copy_tensors(image.tensors, [located.tensors[number] for number in self._whole], self._half)
        copy_memory(_chosen(image.addresses, self._small), _chosen(located.addresses, self._small), self._small_sizes)
        for number in self._large:
            image.record(number).copy_(_bytes_of(located.tensors[number]))
        for number in self._far:
            copy_from_device(image.record(number), located.tensors[number].untyped_storage())

    def _whole_tensors(self, numbers: Sequence[int]) -> dict[int, TensorRef]:
        """Return those of the records that torch copies as the tensors that fill them, where there is much of it."""
        if torch.get_num_threads() == 1 or sum(self.blueprint.sizes[n] for n in numbers) < WORTH_A_THREAD_BYTES:
            return {}
        found = ((number, self.blueprint.filling(number)) for number in numbers)
        return {
            number: ref
            for number, ref in found
            if ref and copied_bit_for_bit(ref.dtype, ref.numel) and self._is_aligned(number, ref)
        }

    def _is_aligned(self, number: int, ref: TensorRef) -> bool:
        start = self.layout.pieces[self.layout.piece_of(number)].start
        return (self.layout.slots[number].offset - start) % ref.itemsize == 0

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


def _chosen(items: Sequence[int], positions: Sequence[int]) -> list[int]:
    return list(map(items.__getitem__, positions))
