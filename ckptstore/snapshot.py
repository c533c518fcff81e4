"""A copy of a training state that stays what it is while training goes on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch

from ckptstore.archive import Flat, Image, Mould, Stream, fit, flatten
from ckptstore.errors import NoMemoryForSnapshot
from ckptstore.transfers import Transfers

_Spare: TypeAlias = defaultdict[tuple[int, bool], list[torch.Tensor]]


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """A mould, and memory for it that nobody uses."""

    mould: Mould
    free: list[Image] = field(default_factory=list)


class Snapshot:
    """A state at one moment, in host memory that belongs to a pool."""

    def __init__(
        self, tokens: Flat, mould: Mould, image: Image, transfers: Transfers, give_back: Callable[[Image], None]
    ) -> None:
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
        self._give_back(self._image)


class SnapshotPool:
    """Host memory for snapshots, reused from one to the next: fresh pages cost more than the copy itself.

    What was found out about the state goes with it, so that the next snapshot of tensors that have kept their shapes
    and places costs little more than the copy. What the last snapshot did not need is let go: memory follows the
    state's size and does not grow by saving. One thread at a time may take; any may release.
    """

    def __init__(self) -> None:
        self._kept: _Kept | None = None

    def take(self, state: Mapping[str, Any]) -> Snapshot:
        """Copy a state. CPU tensors are copied when this returns.

        Tensors of a GPU are on their way into pinned memory on a stream of their own; what the program queues next
        on its current stream waits for that copy, so the state may be changed at once.

        Raises:
            UnsavableState: see `savable`; the pool is as it was.
            NoMemoryForSnapshot: there is none for a copy; the pool is as it was.
        """
        with torch.inference_mode(mode=False):  # memory made within could not be written to outside, the next time
            return self._take(state)

    def _take(self, state: Mapping[str, Any]) -> Snapshot:
        flat, kept = flatten(state), self._kept
        mould, located = fit(flat, state, kept.mould if kept else None)
        if kept is None or kept.mould is not mould:
            kept = _Kept(mould)
        image, transfers = self._image_for(kept), Transfers()
        try:
            mould.fill(image, located, transfers.copy)
        except BaseException:
            transfers.queued()
            transfers.wait()
            kept.free.append(image)
            raise
        transfers.queued()
        kept.free.clear()
        self._kept = kept
        return Snapshot(flat.without_tensors(), mould, image, transfers, kept.free.append)

    def _image_for(self, kept: _Kept) -> Image:
        if kept.free:
            return kept.free.pop()
        unused = self._kept.free if self._kept else []
        try:
            return kept.mould.image(_allocator(unused))
        except (MemoryError, RuntimeError) as error:  # torch's allocators raise the latter
            raise NoMemoryForSnapshot(
                f"no memory for a copy of the state, {sum(kept.mould.blueprint.sizes):,} bytes; "
                f"save with blocking=True, which needs none ({str(error).splitlines()[0]})"
            ) from error


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
