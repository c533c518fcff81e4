from __future__ import annotations

import io
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ckptstore.archive import TensorRef, load, plan, read_index, read_records, savable
from ckptstore.errors import KeyNotFound, ObjectChanged, UnsupportedFormat
from ckptstore.store import Store, open_store
from ckptstore_backends.local import LocalStore
from ckptstore_backends.memory import MemoryStore
from tests.archives import CountingStore, same, sharing, tensors_in


def state() -> dict[str, Any]:
    base = torch.arange(12, dtype=torch.float32)
    return {"step": 3, "w": OrderedDict(a=base.reshape(3, 4), b=base[4:], c=torch.ones(2, dtype=torch.float16))}


def trained(optimizer_class: Callable[..., torch.optim.Optimizer]) -> tuple[Any, Any]:
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 4))
    model[2].weight = model[0].weight
    optimizer = optimizer_class(model.parameters(), lr=0.01)
    _train(model, optimizer)
    return model, optimizer


def _train(model: Any, optimizer: Any) -> None:
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.ones(5, 4).cumsum(0)).square().sum().backward()
        optimizer.step()


@pytest.fixture(params=["memory", "local"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return open_store("memory://archive-reading") if request.param == "memory" else LocalStore(tmp_path)


def test_a_state_comes_back_bit_for_bit_and_tied(store: Store) -> None:
    store.put("a/b.pt", plan(state()).buffers())
    loaded = load(store, "a/b.pt")
    assert same(loaded, state())
    assert sharing(loaded) == [0, 0, 2]


def test_a_bucket_gives_the_same(s3_store: Store) -> None:
    s3_store.put("a/b.pt", plan(state()).buffers())
    assert same(load(s3_store, "a/b.pt"), state())
    assert read_index(s3_store, "a/b.pt").digest == plan(state()).digest


def test_loaded_tensors_have_memory_of_their_own_that_can_be_written(store: Store) -> None:
    store.put("a.pt", plan(state()).buffers())
    first, second = load(store, "a.pt"), load(store, "a.pt")
    for tensor in tensors_in(first):
        tensor.zero_()
    assert same(second, state())
    assert same(load(store, "a.pt"), state())


@pytest.mark.parametrize("optimizer_class", [torch.optim.Adam, torch.optim.SGD, torch.optim.Adagrad])
def test_training_goes_on_exactly_from_a_loaded_state(optimizer_class: Any, tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    model, optimizer = trained(optimizer_class)
    store.put("a.pt", plan({"model": model.state_dict(), "optimizer": optimizer.state_dict()}).buffers())
    other, other_optimizer = trained(optimizer_class)
    _train(other, other_optimizer)
    loaded = load(store, "a.pt")
    other.load_state_dict(loaded["model"])
    other_optimizer.load_state_dict(loaded["optimizer"])
    _train(model, optimizer)
    _train(other, other_optimizer)
    assert same(savable(model.state_dict()), savable(other.state_dict()))


def test_the_index_describes_every_tensor_and_holds_the_rest(store: Store) -> None:
    info = store.put("a.pt", plan(state()).buffers())
    index = read_index(store, "a.pt", info=info)
    assert (index.key, index.version, index.size_bytes) == ("a.pt", info.version, info.size_bytes)
    assert index.state["step"] == 3
    assert index.state["w"]["b"] == TensorRef("data/0", "float32", (8,), (1,), 4)
    assert index.state["w"]["a"].numel == 12
    assert [record.name for record in index.records] == ["data/0", "data/1", "byteorder", "version", "data.pkl"]
    assert all(record.offset % 64 == 0 for record in index.records)


def test_records_are_read_in_the_order_asked(store: Store) -> None:
    store.put("a.pt", plan(state()).buffers())
    index = read_index(store, "a.pt")
    found = [(name, bytes(data)) for name, data in read_records(store, index, ["data/1", "version", "data/0"])]
    assert found[1] == ("version", b"3\n")
    assert found[2] == ("data/0", struct.pack("<12f", *range(12)))
    with pytest.raises(KeyError):
        list(read_records(store, index, ["data/2"]))


@pytest.mark.parametrize(("elements", "reads"), [(10, 1), (100_000, 2)])
def test_a_small_index_takes_one_read_and_loading_one_more_where_that_is_not_the_whole_file(
    elements: int, reads: int
) -> None:
    store = CountingStore("archive-counting")
    saved = {"w": torch.arange(elements)}
    info = store.put("a.pt", plan(saved).buffers())
    index = read_index(store, "a.pt", info=info)
    assert store.requests == ["get_ranges"]
    assert same(load(store, "a.pt", index=index), saved)
    assert store.requests == ["get_ranges"] * 2
    assert same(load(store, "a.pt", info=info), saved)
    assert store.requests == ["get_ranges"] * (2 + reads)
    assert same(load(store, "a.pt"), saved)
    assert store.requests[2 + reads :] == ["stat"] + ["get_ranges"] * reads


def test_an_index_of_5000_tensors_takes_two_reads() -> None:
    store = CountingStore("archive-counting")
    many = {f"model.layers.{number}.weight": torch.full((3,), number) for number in range(5000)}
    info = store.put("many.pt", plan(many).buffers())
    index = read_index(store, "many.pt", info=info)
    assert store.requests == ["get_ranges"] * 2
    assert len(index.metadata) > 256 * 1024
    assert same(load(store, "many.pt", index=index), many)


def test_long_metadata_of_few_tensors_takes_two_reads() -> None:
    store = CountingStore("archive-counting")
    info = store.put("long.pt", plan({"text": "x" * 600_000, "w": torch.ones(3)}).buffers())
    assert read_index(store, "long.pt", info=info).state["text"] == "x" * 600_000
    assert store.requests == ["get_ranges"] * 2


def test_a_replaced_object_is_never_mixed(store: Store) -> None:
    info = store.put("a.pt", plan(state()).buffers())
    index = read_index(store, "a.pt", info=info)
    store.put("a.pt", plan({**state(), "step": 4}).buffers())
    with pytest.raises(ObjectChanged):
        load(store, "a.pt", index=index)
    with pytest.raises(ObjectChanged):
        load(store, "a.pt", info=info)
    with pytest.raises(ObjectChanged):
        read_index(store, "a.pt", info=info)


def test_an_absent_key_is_not_found(store: Store) -> None:
    for read in (load, read_index):
        with pytest.raises(KeyNotFound):
            read(store, "nothing.pt")


def test_map_location_is_understood_as_torch_does() -> None:
    store = MemoryStore("archive-places")
    store.put("a.pt", plan(state()).buffers())
    for place in ("meta", torch.device("meta"), {"cpu": "meta"}):
        loaded = load(store, "a.pt", map_location=place)
        assert {tensor.device.type for tensor in tensors_in(loaded)} == {"meta"}
        assert [tensor.shape for tensor in tensors_in(loaded)] == [(3, 4), (8,), (2,)]
    seen: list[str] = []
    for same_place in (None, "cpu", {"cuda:0": "cpu"}, lambda storage, location: seen.append(location)):
        assert same(load(store, "a.pt", map_location=same_place), state())
    assert seen == ["cpu", "cpu"]


def foreign_states() -> dict[str, Any]:
    model, optimizer = trained(torch.optim.Adam)
    return {
        "model and optimizer": {"model": model.state_dict(), "optimizer": optimizer.state_dict()},
        "parameter": {"p": torch.nn.Parameter(torch.ones(3))},
        "tensor": torch.arange(5),
        "views": state(),
        "counter": {"c": Counter("aab"), "s": {1, 2}, "b": b"\xff", "a": bytearray(b"x")},
        "same list": [[1, 2]] * 2,
        "nothing": {},
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", foreign_states())
def test_what_torch_saved_loads_as_torch_loads_it(name: str, zipped: bool) -> None:
    file, store = io.BytesIO(), MemoryStore("archive-foreign")
    torch.save(foreign_states()[name], file, _use_new_zipfile_serialization=zipped)
    store.put("a.pt", file.getvalue())
    file.seek(0)
    expected, loaded = torch.load(file, weights_only=True), load(store, "a.pt")
    assert same(loaded, expected)
    assert sharing(loaded) == sharing(expected)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_sparse_tensor_that_torch_saved_loads(zipped: bool) -> None:
    file, store = io.BytesIO(), MemoryStore("archive-foreign")
    torch.save({"s": torch.eye(3).to_sparse()}, file, _use_new_zipfile_serialization=zipped)
    store.put("a.pt", file.getvalue())
    assert torch.equal(load(store, "a.pt")["s"].to_dense(), torch.eye(3))


def test_a_file_that_torch_saved_without_checksums_loads() -> None:
    file, store = io.BytesIO(), MemoryStore("archive-foreign")
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state(), file)
    finally:
        torch.serialization.set_crc32_options(True)
    store.put("a.pt", file.getvalue())
    assert same(load(store, "a.pt"), state())


def test_map_location_reaches_a_file_that_torch_saved() -> None:
    file, store = io.BytesIO(), MemoryStore("archive-foreign")
    torch.save(state(), file)
    store.put("a.pt", file.getvalue())
    assert load(store, "a.pt", map_location="meta")["w"]["a"].is_meta


def test_a_file_that_torch_saved_has_no_index() -> None:
    file, store = io.BytesIO(), MemoryStore("archive-foreign")
    torch.save(state(), file)
    store.put("a.pt", file.getvalue())
    with pytest.raises(UnsupportedFormat, match="written by another tool"):
        read_index(store, "a.pt")
