"""Copy many small tensors between two steps of a training loop."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

__all__ = ["WORTH_A_THREAD_BYTES", "copied_bit_for_bit", "copy_memory", "copy_tensors"]

WORTH_A_THREAD_BYTES = 8 * 1024 * 1024
"""Less is copied before a thread has begun."""

_SPLIT_BY_TORCH = 32 * 1024  # elements from which on torch copies with threads of its own, a set for each caller

_KEPT_AS_THEY_ARE = frozenset(
    {
        torch.float64, torch.float32, torch.float16, torch.bfloat16,
        torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8,
    }
)  # fmt: skip

# That of ctypes itself lets other threads run during each copy, however small.
_memmove = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)(
    ctypes.cast(ctypes.memmove, ctypes.c_void_p).value or 0
)


def copied_bit_for_bit(dtype: torch.dtype, numel: int) -> bool:
    """Whether `copy_tensors` is for a tensor of so many elements; a bool may hold more than two values in memory."""
    return dtype in _KEPT_AS_THEY_ARE and numel < _SPLIT_BY_TORCH


def copy_memory(targets: Sequence[int], sources: Sequence[int], sizes: Sequence[int]) -> None:
    """Copy bytes from address to address; no other thread runs meanwhile."""
    deque(map(_memmove, targets, sources, sizes), maxlen=0)


def copy_tensors(targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor], half: int) -> None:
    """Copy tensors into those of the same shapes, strides and dtypes, on two cores.

    One core does not reach the speed of memory: 80 MB in 5,000 tensors take 7 ms instead of 11.

    Args:
        targets: written to.
        sources: CPU tensors.
        half: how many of them another thread copies.
    """
    with ThreadPoolExecutor(1, "ckptstore copy") as beside:
        begun = beside.submit(_copy_in_one_call, targets[:half], sources[:half])
        _copy_in_one_call(targets[half:], sources[half:])
    begun.result()


@torch.no_grad()
def _copy_in_one_call(targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor]) -> None:
    torch._foreach_copy_(list(targets), list(sources))
