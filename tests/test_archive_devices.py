"""States on a device, saved without a copy of all of it. Memory of this machine stands in for that of a device."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch

from ckptstore import CheckpointManagerV2
from ckptstore.archive import plan, sources, writing
from ckptstore.archive.sources import FETCHED_BYTES, OnDevice
from tests.archives import written

MIB = 2**20


class Fetches:
    """What was copied to the host, how much of that is there now, and how much was at most."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.live = self.peak = 0

    def fetched(self, data: torch.Tensor) -> memoryview:
        view = copied(data)
        self.sizes.append(view.nbytes)
        self.live += view.nbytes
        self.peak = max(self.peak, self.live)
        weakref.finalize(view.obj, self.freed, view.nbytes)
        return view

    def freed(self, size_bytes: int) -> None:
        self.live -= size_bytes


copied = sources.fetched


@pytest.fixture
def fetches(monkeypatch):
    """Everything lies on a device."""
    fetches = Fetches()
    monkeypatch.setattr(writing, "source_of", OnDevice)
    monkeypatch.setattr(sources, "fetched", fetches.fetched)
    return fetches


def state_of(*mebibytes: float) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(3)
    return {
        str(number): torch.randint(256, (int(size * MIB),), dtype=torch.uint8, generator=generator)
        for number, size in enumerate(mebibytes)
    }


def test_nothing_is_fetched_before_the_first_byte_is_asked_for(fetches):
    archive = plan(state_of(4, 0.01))
    assert archive.size_bytes > 4 * MIB
    buffers = archive.buffers()
    assert fetches.sizes == []
    next(buffers)
    assert fetches.sizes == [4 * MIB]


def test_each_record_is_fetched_in_its_turn_and_let_go_before_the_next(fetches):
    for buffer in plan(state_of(*[8] * 12)).buffers():
        assert buffer.nbytes <= 8 * MIB
    assert fetches.sizes == [8 * MIB] * 12
    assert fetches.peak <= 16 * MIB
    del buffer
    assert fetches.live == 0


def test_a_large_record_is_fetched_twice_in_slices(fetches):
    whole = 5 * FETCHED_BYTES + 3
    for buffer in plan(state_of(whole / MIB)).buffers():
        assert buffer.nbytes <= FETCHED_BYTES
    assert fetches.sizes == 2 * [*[FETCHED_BYTES] * 5, 3]
    assert fetches.peak <= 2 * FETCHED_BYTES


def test_the_file_is_the_one_of_the_same_state_in_host_memory(monkeypatch):
    state = state_of(1, 0.001, 0, 40, 0.3, 0.2)
    state["view"] = state["3"][5 * MIB :].view(torch.int16)
    expected = written(state)
    monkeypatch.setattr(writing, "source_of", OnDevice)
    archive = plan(state)
    assert b"".join(archive.buffers()) == expected
    assert b"".join(archive.buffers()) == expected
    assert archive.digest == plan(state).digest == expected[-64:].decode()


def test_a_blocking_save_holds_a_part_of_the_state_at_a_time(fetches, tmp_path):
    model = torch.nn.Sequential(*(torch.nn.Linear(1024, 1024) for _ in range(30)))
    with CheckpointManagerV2(tmp_path) as manager:
        manager.update_experiment_hash(model)
        manager.save_model_checkpoint(model, step=1)
        assert fetches.sizes.count(4 * MIB) == 30
        assert fetches.peak < 64 * MIB
        loaded = manager.load_checkpoint(step=1)["model_state_dict"]
    assert all(torch.equal(value, loaded[name]) for name, value in model.state_dict().items())
