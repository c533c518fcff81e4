"""What the contenders save: tensors over one file of random bytes, so that ten processes share its memory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

MIB = 1024 * 1024
_SMALL_TENSORS = 5_000
_LARGE_TENSORS = 64


@dataclass(frozen=True, slots=True)
class Shape:
    """How much a state holds, and in how many tensors of equal size."""

    size_bytes: int
    tensors: int

    @classmethod
    def named(cls, name: str) -> Shape:
        """Return the shape of "1024" (MiB, in 64 tensors), "4096 in 1024" or "small" (78 MiB in 5,000 tensors)."""
        if name == "small":
            return cls(_SMALL_TENSORS * 16 * 1024, _SMALL_TENSORS)
        size_mib, _, tensors = name.partition(" in ")
        return cls(int(size_mib) * MIB, int(tensors or _LARGE_TENSORS))

    @property
    def title(self) -> str:
        """What it is called in a report."""
        return f"{self.size_bytes / MIB:.0f} MiB in {self.tensors:,} tensors"


def write_bytes(path: Path, shape: Shape) -> None:
    """Write the random bytes that a state of this shape views."""
    block = os.urandom(16 * MIB)
    with path.open("wb") as file:
        for start in range(0, shape.size_bytes, len(block)):
            file.write(block[: min(len(block), shape.size_bytes - start)])


def view_bytes(path: Path) -> memoryview:
    """Return the same bytes in one piece, for those who only move them."""
    whole = np.memmap(path, dtype=np.uint8, mode="c")
    _touch(whole)
    return memoryview(whole)


def view_state(path: Path, shape: Shape) -> dict[str, torch.Tensor]:
    """Return float32 tensors, each with a storage of its own."""
    each = shape.size_bytes // shape.tensors
    state = {}
    for number in range(shape.tensors):
        part = np.memmap(path, dtype=np.float32, mode="c", offset=number * each, shape=(each // 4,))
        _touch(part)
        state[f"layer.{number:04d}.weight"] = torch.from_numpy(part)
    return state


class Model(torch.nn.Module):
    """A module that holds such a state."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        super().__init__()
        for name, tensor in state.items():
            self.register_buffer(name.replace(".", "_"), tensor)


def _touch(array: np.ndarray) -> None:
    array.view(np.uint8)[::4096].sum()  # maps every page, so that no contender pays for it
