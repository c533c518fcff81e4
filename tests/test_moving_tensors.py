"""Many small tensors in a snapshot, which stay where they are, move, and change places."""

from __future__ import annotations

import gc
import io
import weakref
from typing import Any

import pytest
import torch

from ckptstore.snapshot import SnapshotPool

COUNT, NUMBERS = 320, 8192  # 32 KiB each


def _state() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(7)
    # of every length below, and with every bit pattern, NaNs among them
    return {
        f"w{n}": torch.randint(-(2**31), 2**31, (NUMBERS + n % 7,), generator=generator).int().view(torch.float32)
        for n in range(COUNT)
    }


def _bits(state: dict[str, Any]) -> bytes:
    return b"".join(tensor.contiguous().view(torch.uint8).numpy().tobytes() for tensor in state.values())


def _saved(pool: SnapshotPool, state: dict[str, Any]) -> Any:
    snapshot = pool.take(state)
    for tensor in state.values():
        tensor.add_(1)
    data = b"".join(snapshot.stream().buffers())
    snapshot.release()
    return torch.load(io.BytesIO(data), weights_only=True)


@pytest.mark.parametrize("replaced", [range(0), range(3), range(COUNT), range(100, COUNT, 9)], ids=str)
def test_many_small_tensors_are_saved_bit_for_bit_wherever_they_lie(replaced):
    pool, state = SnapshotPool(), _state()
    for _ in range(3):
        expected = _bits(state)
        assert _bits(_saved(pool, state)) == expected
        for number in replaced:
            state[f"w{number}"] = state[f"w{number}"] + 1


def test_two_tensors_that_change_places_are_saved_in_their_new_ones():
    pool, state = SnapshotPool(), _state()
    _saved(pool, state)
    state["w0"].data, state["w7"].data = state["w7"].data, state["w0"].data
    state["w313"].data, state["w306"].data = state["w306"].data, state["w313"].data
    expected = _bits(state)
    assert _bits(_saved(pool, state)) == expected


def test_what_was_saved_is_freed_as_soon_as_the_program_lets_it_go():
    pool, state = SnapshotPool(), _state()
    _saved(pool, state)
    seen = [weakref.ref(tensor) for tensor in state.values()]
    state.clear()
    gc.collect()
    assert not any(reference() for reference in seen)


def test_few_tensors_just_below_the_size_of_a_large_one_are_saved_as_they_are():
    pool = SnapshotPool()
    state = {f"w{n}": torch.arange(n, n + 60_000, dtype=torch.float32) for n in range(40)}
    expected = _bits(state)
    assert _bits(_saved(pool, state)) == expected
