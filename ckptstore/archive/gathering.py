"""Many small records copied out of the program's memory, in little more time than the memory itself takes.

A call into C for each record takes as long as its copy. So what a call needs is kept from one save to the next, as
long as the records stay where they are; and where it is worth a thread, two cores copy.
"""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, compress, repeat
from operator import ne, setitem

import torch

from ckptstore.archive.image import Image

__all__ = ["Gathering"]

_ALL = slice(None)
_HELP_FROM_BYTES = 8 * 1024 * 1024
_HELPERS_SHARE = 0.4
"""Of the bytes; a call of torch's for many copies needs no GIL, but takes longer than views do."""

_OVERTURE_SHARE = 16
"""One helper's record in so many is copied first, without the GIL, for the helper to get it and begin."""


class Gathering:
    """Copies records of these numbers and sizes into an image.

    Nothing is kept alive: what is known of an address is used only while a live record is said to be there.
    """

    def __init__(self, numbers: Sequence[int], sizes: Sequence[int]) -> None:
        self._sizes = sizes
        helped = _helpers_part(sizes)
        self._helpers_numbers, self._own_numbers = numbers[:helped], numbers[helped:]
        self._tensors = [torch.empty(0, dtype=torch.uint8, device="cpu")] * helped
        self._views = [memoryview(b"")] * (len(numbers) - helped)
        self._numbers = numbers
        self._addresses = [0] * len(numbers)

    def copy(self, addresses: Sequence[int], image: Image) -> None:
        """Copy every record, given the addresses of all records of the state; their memory must be there."""
        self._look_at(list(map(addresses.__getitem__, self._numbers)))
        if not self._tensors:
            self._copy_own(image)
            return
        targets, sources = image.tensors(self._helpers_numbers), self._tensors
        first = 1 + len(sources) // _OVERTURE_SHARE
        with ThreadPoolExecutor(1, "ckptstore copy") as helper:
            copied = helper.submit(torch._foreach_copy_, targets[first:], sources[first:])
            torch._foreach_copy_(targets[:first], sources[:first])
            self._copy_own(image)
            copied.result()

    def _copy_own(self, image: Image) -> None:
        targets = map(image.memory.__getitem__, self._own_numbers)
        deque(map(setitem, targets, repeat(_ALL), self._views), maxlen=0)  # type: ignore[arg-type]  # overloaded

    def _look_at(self, addresses: list[int]) -> None:
        last, helped = self._addresses, len(self._tensors)
        if addresses == last:
            return
        for position in compress(range(len(last)), map(ne, addresses, last)):
            memory = (ctypes.c_ubyte * self._sizes[position]).from_address(addresses[position])
            if position < helped:
                self._tensors[position] = torch.frombuffer(memory, dtype=torch.uint8)
            else:
                self._views[position - helped] = memoryview(memory).cast("B")
            last[position] = addresses[position]


def _helpers_part(sizes: Sequence[int]) -> int:
    """Return how many records from the first on a helper copies."""
    total = sum(sizes)
    if total < _HELP_FROM_BYTES or torch.get_num_threads() == 1:
        return 0
    return sum(stop <= total * _HELPERS_SHARE for stop in accumulate(sizes))
