"""Copies out of a device's memory that training need not wait for."""

from __future__ import annotations

import torch


class Transfers:
    """The copies of one snapshot; on a CUDA device they run beside the program, on a stream of their own.

    The order of things, per device: the copies wait for what the program has queued on its current stream; what it
    queues there afterwards waits for the copies. Work on further streams of the program has to be joined into its
    current stream before a save, as before any other use of its results.
    Source: "CUDA semantics" in torch's notes; Tensor.record_stream, Stream.wait_stream.
    """

    def __init__(self) -> None:
        self._streams: dict[torch.device, torch.cuda.Stream] = {}
        self._arrivals: list[torch.cuda.Event] = []

    def copy(self, target: torch.Tensor, storage: torch.UntypedStorage) -> None:
        """Copy a storage into host memory, which is pinned where the storage is on a CUDA device."""
        source = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
        if storage.device.type != "cuda":
            target.copy_(source)
            return
        stream = self._stream(storage.device)
        with torch.cuda.stream(stream):
            target.copy_(source, non_blocking=True)
        source.record_stream(stream)  # were it freed now, its memory would be given to others only after the copy

    def queued(self) -> None:
        """Say that there are no more; what is queued next on each device's current stream waits for them."""
        for device, stream in self._streams.items():
            arrival = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # who waits for it sleeps
            arrival.record(stream)
            torch.cuda.current_stream(device).wait_event(arrival)
            self._arrivals.append(arrival)

    def wait(self) -> None:
        """Return once every byte has arrived."""
        for arrival in self._arrivals:
            arrival.synchronize()

    def _stream(self, device: torch.device) -> torch.cuda.Stream:
        stream = self._streams.get(device)
        if stream is None:
            stream = self._streams[device] = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream(device))
        return stream
