from __future__ import annotations

import hashlib
import io
import os
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ckptstore.archive import fit, flatten, load, plan, read_index, read_records, savable
from ckptstore.archive.dtypes import DTYPES, torch_dtype
from ckptstore.errors import UnsavableState
from ckptstore_backends.local import LocalStore
from ckptstore_backends.memory import MemoryStore
from tests.archives import forged, same, sharing, written


def small_state() -> dict[str, Any]:
    base = torch.arange(6, dtype=torch.float32)
    return {
        "format": 1,
        "weights": OrderedDict(first=base[:4].reshape(2, 2), tied=base, half=torch.ones(3, dtype=torch.bfloat16)),
        "new": torch.arange(3).to(torch.uint16),
        "empty": torch.empty(0, 2),
        "scalar": torch.tensor(True),
        "plain": [None, True, -1, 300, 2**40, 0.1, "é", b"\xff", 1j, (1, 2, 3, 4), {3, 1, 2}, torch.Size([2])],
    }


def trained() -> dict[str, Any]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(5, 4)).sum().backward()
        optimizer.step()
    return {"model_state_dict": model.state_dict(), "optimizer_state_dict": optimizer.state_dict()}


def test_the_bytes_of_a_small_state_never_change() -> None:
    assert (
        hashlib.sha256(written(small_state())).hexdigest()
        == "e0eba8e7e70d663e37cec4c166d1afcc4e1e72d11cd7eb9266ebb87cc576e443"
    )
    assert plan(small_state()).digest == "49cf598ce1b4bd9a7ed4568e31061f8f9308590baadbb0924ed69d543283ecf9"


def test_plain_torch_reads_it_with_and_without_mmap(tmp_path: Path) -> None:
    for name, state in [("small", small_state()), ("trained", trained())]:
        path = tmp_path / f"{name}.pt"
        path.write_bytes(written(state))
        for mmap in (False, True):
            loaded = torch.load(path, weights_only=True, mmap=mmap)
            assert same(loaded, savable(state))
            assert sharing(loaded) == sharing(state)


def test_python_reads_it_as_a_zip_whose_records_are_aligned_and_in_order() -> None:
    data = written(small_state())
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert archive.comment == f"ckptstore1 {plan(small_state()).digest}".encode()
        names = [entry.filename for entry in archive.infolist()]
        for entry in archive.infolist():
            lengths = struct.unpack_from("<2H", data, entry.header_offset + 26)
            assert (entry.header_offset + 30 + sum(lengths)) % 64 == 0
    assert names == [
        *(f"archive/data/{n}" for n in range(5)),
        *(f"archive/{n}" for n in ("byteorder", "version", "data.pkl")),
    ]


def test_the_digest_is_that_of_the_central_directory() -> None:
    data = written(small_state())
    start, length = data.index(b"PK\1\2"), len(data) - 97 - data.index(b"PK\1\2")
    assert plan(small_state()).digest == hashlib.sha256(data[start : start + length]).hexdigest()


def test_size_and_digest_are_known_whenever_they_are_asked_for() -> None:
    archive = plan(small_state())
    before = (archive.size_bytes, archive.digest)
    data = b"".join(archive.buffers())
    assert before == (len(data), archive.digest) == (len(data), data[-64:].decode())
    assert b"".join(archive.buffers()) == data


def test_large_tensors_are_given_out_as_their_own_memory() -> None:
    tensor = torch.arange(200_000)
    buffers = list(plan({"large": tensor, "small": torch.ones(3)}).buffers())
    (large,) = [buffer for buffer in buffers if buffer.nbytes == tensor.nbytes]
    tensor[0] = 77
    assert large[0] == 77
    assert len(buffers) == 3


def test_many_small_tensors_go_out_in_few_buffers() -> None:
    state = {str(number): torch.full((1000,), number) for number in range(1500)}
    buffers = list(plan(state).buffers())
    assert [buffer.nbytes > 4_000_000 for buffer in buffers[:-1]] == [True, True]
    assert same(torch.load(io.BytesIO(b"".join(buffers)), weights_only=True), state)


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("dtype", sorted(map(torch_dtype, DTYPES), key=str), ids=str)
def test_every_dtype_is_read_by_torch(dtype: torch.dtype) -> None:
    raw = torch.arange(32, dtype=torch.uint8) % 2
    state = {"value": torch.empty(0, dtype=dtype).set_(raw.untyped_storage(), 0, (2, 1), (1, 1))}
    assert same(torch.load(io.BytesIO(written(state)), weights_only=True), state)


def test_dtypes_that_torch_cannot_save_are_refused() -> None:
    with pytest.raises(UnsavableState, match="is a bits8 tensor"):
        plan({"bits": torch.zeros(2, dtype=torch.uint8).view(torch.bits8)})


def test_views_of_one_memory_in_several_dtypes_stay_views() -> None:
    base = torch.arange(8, dtype=torch.float32)
    state = {"floats": base, "bits": base.view(torch.int32)[2:], "bytes": base.view(torch.uint8)[::3]}
    loaded = torch.load(io.BytesIO(written(state)), weights_only=True)
    assert same(loaded, state)
    loaded["floats"][2] = 0
    assert loaded["bits"][0] == 0


def test_a_storage_that_its_dtype_does_not_fill_is_kept_whole() -> None:
    storage = torch.arange(7, dtype=torch.uint8).untyped_storage()
    state = {"float": torch.empty(0).set_(storage, 0, (1,), (1,))}
    assert same(torch.load(io.BytesIO(written(state)), weights_only=True), state)


def test_an_empty_view_beyond_its_memory_is_kept() -> None:
    state = {"empty": torch.ones(2).as_strided((0, 3), (3, 1), 50)}
    store = MemoryStore("archive-writing")
    store.put("a.pt", written(state))
    assert same(torch.load(io.BytesIO(written(state)), weights_only=True), state)
    assert same(load(store, "a.pt"), state)


def test_strides_expansions_and_transposes_are_kept() -> None:
    base = torch.arange(12.0).reshape(3, 4)
    state = {"t": base.T, "step": base[:, ::2], "expanded": base[:1].expand(100, 4), "scalar": base[2, 3]}
    loaded = torch.load(io.BytesIO(written(state)), weights_only=True)
    assert same(loaded, state)
    assert sharing(loaded) == [0, 0, 0, 0]


def test_the_same_state_made_of_other_objects_has_the_same_bytes() -> None:
    word = "a" * 30
    shared = torch.ones(2)
    one: dict[str, Any] = {"a": [word, word, "x"], "b": {word: (shared, shared)}, "c": [[], []]}
    empty: list[Any] = []
    other_word = "".join(["a"] * 30)
    other: dict[str, Any] = {
        "a": [other_word, "a" * 29 + "a", "x"],
        "b": {"".join(["a"] * 30): (shared.detach(), shared.view(2))},
    }
    other["c"] = [empty, empty]
    assert written(one) == written(other)


def test_the_bytes_differ_when_sharing_differs() -> None:
    ones = torch.ones(2)
    assert written({"a": ones, "b": ones}) != written({"a": ones, "b": ones.clone()})


SCRIPT = """
import sys, torch
from ckptstore.archive import plan
names = {f"name {n}" for n in range(50)}
mixed = {1, "a", None, 2.5, (1, "b")}
state = {"set": names, "mixed": mixed, "t": torch.arange(9).reshape(3, 3).T, "words": sys.argv[1:]}
print(plan(state).digest)
"""


def test_other_processes_write_the_same_bytes() -> None:
    digests = set()
    for seed in ("0", "1"):
        command = [sys.executable, "-c", SCRIPT, "word", "word"]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        digests.add(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)
    assert len(digests) == 1


def sparse_write(path: Path, buffers: Iterable[memoryview]) -> int:
    """Write an archive but leave holes where a large buffer holds nothing but zeros in its middle."""
    with path.open("wb") as file:
        for buffer in buffers:
            if buffer.nbytes < 2**30:
                file.write(buffer)
                continue
            file.write(buffer[:4096])
            file.seek(buffer.nbytes - 8192, os.SEEK_CUR)
            file.write(buffer[-4096:])
        return file.tell()


def test_records_and_offsets_beyond_4_gib_are_read_by_all(tmp_path: Path) -> None:
    size_bytes = 2**32 + 4096
    huge = torch.from_numpy(np.zeros(size_bytes, np.uint8))  # pages that nobody wrote take no memory
    huge[-1] = 7
    archive = plan({"huge": huge, "behind": torch.arange(5)})
    assert sparse_write(tmp_path / "huge.pt", archive.buffers()) == archive.size_bytes
    with zipfile.ZipFile(tmp_path / "huge.pt") as file:
        assert [entry.file_size for entry in file.infolist()][:2] == [size_bytes, 40]
        assert file.read("archive/data/1") == bytes(torch.arange(5).numpy())
    loaded = torch.load(tmp_path / "huge.pt", weights_only=True, mmap=True)
    assert loaded["huge"][-1] == 7
    assert loaded["behind"].tolist() == [0, 1, 2, 3, 4]
    store = LocalStore(tmp_path)
    index = read_index(store, "huge.pt")
    assert (index.records[0].size_bytes, index.records[1].offset > 2**32) == (size_bytes, True)
    assert [bytes(data) for _, data in read_records(store, index, ["data/1"])] == [bytes(torch.arange(5).numpy())]


def test_more_than_65535_records_are_read_by_all(tmp_path: Path) -> None:
    state = {"first": torch.tensor([7], dtype=torch.uint8)}
    flat = flatten(state)
    metadata = fit(flat, state, None)[0].metadata(flat)
    store = LocalStore(tmp_path)
    store.put("many.pt", forged(metadata, [b"\7"] * 66_000))
    with zipfile.ZipFile(tmp_path / "many.pt") as archive:
        assert len(archive.infolist()) == 66_003
    assert len(read_index(store, "many.pt").records) == 66_003
    for loaded in (torch.load(tmp_path / "many.pt", weights_only=True), load(store, "many.pt")):
        assert same(loaded, state)


def test_a_state_that_is_mostly_metadata_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ckptstore.archive.mould.MAX_METADATA_BYTES", 1000)
    with pytest.raises(UnsavableState, match="1024 bytes outside of tensors"):
        plan({"text": "x" * 1000})
