"""A copy of a training state that stays what it is while training goes on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch

from ckptstore.archive import savable


class Snapshot:
    """A state at one moment, in host memory that belongs to a pool.

    Attributes:
        state: plain data and CPU tensors, bit for bit those of the moment; sharing of memory is kept.
    """

    def __init__(self, state: Mapping[str, Any], copying: _Copying, pool: SnapshotPool) -> None:
        self.state = state
        self._copying = copying
        self._pool = pool

    def wait(self) -> None:
        """Return once every byte has arrived; at once but for tensors of a GPU."""
        self._copying.wait()

    def release(self) -> None:
        """Give the memory back; the state must not be used any more."""
        self._pool.give_back(self._copying.taken)


class SnapshotPool:
    """Host memory for snapshots, reused from one to the next: fresh pages cost more than the copy itself.

    What the last snapshot did not need is let go, so memory follows the state's size and does not grow by saving.
    """

    def __init__(self) -> None:
        self._free: defaultdict[tuple[int, bool], list[torch.Tensor]] = defaultdict(list)

    def take(self, state: Mapping[str, Any]) -> Snapshot:
        """Copy a state. CPU tensors are copied when this returns.

        Tensors of a GPU are on their way into pinned memory on a stream of their own; what the program queues next
        on its current stream waits for that copy, so the state may be changed at once.

        Raises:
            UnsavableState: see `savable`; the pool is as it was.
            MemoryError, RuntimeError: no memory for a copy; the pool is as it was.
        """
        copying = _Copying(self._free)
        try:
            plain = savable(state, place=copying.place)
        except BaseException:
            copying.finish()
            self.give_back(copying.taken)
            raise
        copying.finish()
        self._free.clear()
        return Snapshot(plain, copying, self)

    def give_back(self, buffers: list[torch.Tensor]) -> None:
        """Take memory for the next snapshot; the list is emptied."""
        for buffer in buffers:
            self._free[buffer.numel(), buffer.is_pinned()].append(buffer)
        buffers.clear()


class _Copying:
    """One snapshot being taken."""

    def __init__(self, free: Mapping[tuple[int, bool], list[torch.Tensor]]) -> None:
        self.taken: list[torch.Tensor] = []
        self._free = free
        self._streams: dict[torch.device, torch.cuda.Stream] = {}

    def place(self, storage: torch.UntypedStorage) -> torch.UntypedStorage:
        source = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
        on_gpu = storage.device.type == "cuda"
        buffer = self._buffer(source.numel(), pinned=on_gpu)
        self.taken.append(buffer)
        if on_gpu:
            self._copy_from_gpu(buffer, source)
        else:
            buffer.copy_(source)
        return buffer.untyped_storage()

    def finish(self) -> None:
        """Let what is queued next on each device wait for the copies."""
        for device, stream in self._streams.items():
            torch.cuda.current_stream(device).wait_stream(stream)

    def wait(self) -> None:
        for stream in self._streams.values():
            stream.synchronize()

    def _buffer(self, size_bytes: int, *, pinned: bool) -> torch.Tensor:
        reusable = self._free.get((size_bytes, pinned))
        return (
            reusable.pop()
            if reusable
            else torch.empty(size_bytes, dtype=torch.uint8, device="cpu", pin_memory=pinned)
        )

    def _copy_from_gpu(self, buffer: torch.Tensor, source: torch.Tensor) -> None:
        stream = self._streams.get(source.device)
        if stream is None:
            stream = self._streams[source.device] = torch.cuda.Stream(source.device)  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream(source.device))
        with torch.cuda.stream(stream):
            buffer.copy_(source, non_blocking=True)
        source.record_stream(stream)
