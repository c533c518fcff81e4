"""A copy of a training state that stays what it is while training goes on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch

from ckptstore.archive import Flat, Image, Mould, Stream, fit, flatten
from ckptstore.errors import NoMemoryForSnapshot
from ckptstore.transfers import Transfers

_Spare: TypeAlias = defaultdict[tuple[int, bool], list[torch.Tensor]]


class Snapshot:
    """A state at one moment, in host memory that belongs to a pool."""

    def __init__(self, tokens: Flat, mould: Mould, image: Image, transfers: Transfers, give_back: _GiveBack) -> None:
        self._tokens = tokens
        self._mould = mould
        self._image = image
        self._transfers = transfers
        self._give_back = give_back

    def stream(self) -> Stream:
        """Return the file that the state becomes, as soon as every byte of it has arrived.

        Raises:
            UnsavableState: over 1 GiB of it is not in tensors.
        """
        self._transfers.wait()
        return self._mould.stream(self._tokens, self._image)

    def release(self) -> None:
        """Give the memory back; the snapshot must not be used any more."""
        self._transfers.wait()
        self._give_back(self._mould, self._image)


class SnapshotPool:
    """Host memory for snapshots, reused from one to the next: fresh pages cost more than the copy itself.

    What was found out about the state goes with it, so that the next snapshot of tensors that have kept their shapes
    and places costs little more than the copy. What the last snapshot did not need is let go: memory follows the
    state's size and does not grow by saving. One thread at a time may take; any may release.
    """

    def __init__(self) -> None:
        self._mould: Mould | None = None
        self._free: list[Image] = []

    def take(self, state: Mapping[str, Any]) -> Snapshot:
        """Copy a state. CPU tensors are copied when this returns.

        Tensors of a GPU are on their way into pinned memory on a stream of their own; what the program queues next
        on its current stream waits for that copy, so the state may be changed at once.

        Raises:
            UnsavableState: see `savable`; the pool is as it was.
            NoMemoryForSnapshot: there is none for a copy; the pool is as it was.
        """
        flat = flatten(state)
        mould, located = fit(flat, state, self._mould)
        image, transfers = self._image_for(mould), Transfers()
        try:
            mould.fill(image, located, transfers.copy)
        except BaseException:
            transfers.queued()
            transfers.wait()
            self._take_back(mould, image)
            raise
        transfers.queued()
        self._mould, self._free = mould, []
        return Snapshot(flat.without_tensors(), mould, image, transfers, self._take_back)

    def _image_for(self, mould: Mould) -> Image:
        if mould is self._mould and self._free:
            return self._free.pop()
        try:
            return mould.image(_allocator(self._free))
        except (MemoryError, RuntimeError) as error:  # torch's allocators raise the latter
            raise NoMemoryForSnapshot(
                f"no memory for a copy of the state, {sum(mould.blueprint.sizes):,} bytes; "
                f"save with blocking=True, which needs none ({str(error).splitlines()[0]})"
            ) from error

    def _take_back(self, mould: Mould, image: Image) -> None:
        if mould is self._mould:
            self._free.append(image)


_GiveBack: TypeAlias = Callable[[Mould, Image], None]


def _allocator(unused: Sequence[Image]) -> Callable[[int, bool], torch.Tensor]:
    """Return what gives memory: that of images that nobody uses, and fresh memory where none of that size is left."""
    spare: _Spare = defaultdict(list)
    for buffer in (buffer for image in unused for buffer in image.buffers):
        spare[buffer.numel(), buffer.is_pinned()].append(buffer)

    def allocate(size_bytes: int, pinned: bool) -> torch.Tensor:  # noqa: FBT001  # as Allocate has it
        fitting = spare[size_bytes, pinned]
        if fitting:
            return fitting.pop()
        return torch.empty(size_bytes, dtype=torch.uint8, device="cpu", pin_memory=pinned)

    return allocate
