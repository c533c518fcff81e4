"""A checkpoint's tensors as other tools read them."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from torch import nn

from ckptstore import CheckpointManagerV2, compress, export_checkpoint, keys
from ckptstore.archive import TensorRef, read_index
from ckptstore.errors import (
    CheckpointNotFound,
    CorruptCheckpoint,
    InvalidURL,
    KeyExists,
    StoreFull,
    UnknownExperiment,
    UnsavableState,
    UnsupportedFormat,
)
from ckptstore.testing import CutPut, FaultyStore, FlipBit
from ckptstore_backends.local import LocalStore
from ckptstore_backends.memory import MemoryStore
from tests.models import same

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.uint16, torch.uint32, torch.uint64, torch.complex64, torch.float8_e4m3fn,
    torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz,
]  # fmt: skip


class Odd(nn.Module):
    """Tied weights, a slice of a larger storage, a transposed tensor, an empty one, every dtype, and extra state."""

    def __init__(self, *, more: torch.dtype | None = None) -> None:
        super().__init__()
        self.first = nn.Linear(3, 5)
        self.second = nn.Linear(3, 5)
        self.second.weight = self.first.weight
        self.register_buffer("slice", torch.randn(10, 50)[2:4])
        self.register_buffer("same storage", self.get_buffer("slice")[1:])
        self.register_buffer("transposed", torch.randn(5, 7).t())
        self.register_buffer("channels_last", torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last))
        self.register_buffer("expanded", torch.randn(3, 1).expand(3, 4))
        self.register_buffer("empty", torch.empty(0, 3))
        self.register_buffer("scalar", torch.tensor(5))
        for dtype in [*DTYPES, *([more] if more else [])]:
            self.register_buffer(str(dtype).replace(".", "_"), torch.arange(3).to(dtype))

    def get_extra_state(self) -> dict[str, int]:
        return {"calls": 3}

    def set_extra_state(self, state: object) -> None:
        assert state == {"calls": 3}


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}


def _bits(tensor: torch.Tensor) -> tuple[torch.dtype, torch.Size, bytes]:
    flat = tensor.contiguous().flatten()
    return tensor.dtype, tensor.shape, bytes(flat.view(torch.uint8).numpy()) if flat.numel() else b""


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Odd()


@pytest.fixture
def manager(any_store, model):
    manager = CheckpointManagerV2(any_store)
    manager.update_experiment_hash(model, {"lr": 0.1})
    optimizer = torch.optim.Adam(model.parameters())
    (model.first(torch.ones(3)) + model.second(torch.ones(3))).sum().backward()
    optimizer.step()
    for step in (1, 2):
        manager.save_model_checkpoint(model, step=step, optimizer=optimizer, metadata={"loss": 0.5})
    return manager


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
def test_safetensors_reads_what_was_exported(manager, any_store, model, tmp_path, compressed):
    if compressed:
        compress(any_store, steps=[1])
    report = export_checkpoint(any_store, manager.exp_hash, 1, tmp_path / "out" / "model.safetensors")
    found = safetensors.torch.load_file(tmp_path / "out" / "model.safetensors")
    expected = _tensors(model)
    assert found.keys() == expected.keys()
    assert {name: _bits(value) for name, value in found.items()} == {
        name: _bits(value) for name, value in expected.items()
    }
    with safetensors.safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    assert (metadata["format"], metadata["exp_hash"], metadata["step"]) == ("pt", manager.exp_hash, "1")
    assert metadata["metadata"] == '{"loss": 0.5}'
    assert (report.tensors, report.left_out) == (len(expected), ("_extra_state",))
    assert report.size_bytes == (tmp_path / "out" / "model.safetensors").stat().st_size


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
def test_torch_reads_the_exported_state_dict(manager, any_store, model, tmp_path, compressed):
    if compressed:
        compress(any_store, steps=[1])
    export_checkpoint(any_store, manager.exp_hash, 1, f"{tmp_path}/", to="pt")
    state = torch.load(tmp_path / f"{manager.exp_hash}_step_000001.pt", weights_only=True, mmap=True)
    assert same(dict(state), dict(model.state_dict()))
    assert state["first.weight"].data_ptr() == state["second.weight"].data_ptr()
    assert state._metadata == model.state_dict()._metadata
    model.load_state_dict(state, assign=True)


def test_the_optimizer_goes_along_when_asked(manager, any_store, model):
    report = export_checkpoint(any_store, manager.exp_hash, 2, any_store, key="a/b.pt", to="pt", with_optimizer=True)
    assert report.as_dict()["key"] == "a/b.pt"
    state = torch.load(io.BytesIO(any_store.get("a/b.pt")), weights_only=True)
    assert list(state) == ["model_state_dict", "optimizer_state_dict"]
    torch.optim.Adam(model.parameters()).load_state_dict(state["optimizer_state_dict"])


@pytest.fixture
def exported(tmp_path):
    store = MemoryStore(f"export {tmp_path}")
    manager = CheckpointManagerV2(store)
    manager.update_experiment_hash(Odd())
    manager.save_model_checkpoint(Odd(), step=1)
    return store, manager.exp_hash


def test_a_file_that_is_there_is_replaced_only_when_asked(exported, tmp_path):
    store, exp_hash = exported
    (tmp_path / "model.safetensors").write_text("mine")
    with pytest.raises(KeyExists, match="choose another name"):
        export_checkpoint(store, exp_hash, 1, tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").read_text() == "mine"
    export_checkpoint(store, exp_hash, 1, tmp_path / "model.safetensors", overwrite=True)
    assert safetensors.torch.load_file(tmp_path / "model.safetensors")


def test_a_folder_gets_a_file_named_after_the_checkpoint(exported, tmp_path):
    store, exp_hash = exported
    for target in (tmp_path, f"memory://folder of exports/{tmp_path.name}/"):
        report = export_checkpoint(store, exp_hash, 1, target)
        assert report.key == f"{exp_hash}_step_000001.safetensors"
    assert (tmp_path / report.key).is_file()
    for nowhere in ("memory://", "memory:///x"):
        with pytest.raises(InvalidURL):
            export_checkpoint(store, exp_hash, 1, nowhere)


def test_contradictory_options_raise_at_once(exported, tmp_path):
    store, exp_hash = exported
    for options in ({"to": "onnx"}, {"with_optimizer": True}, {"key": "k"}):
        with pytest.raises(ValueError, match=r"to=|with_optimizer|key"):
            export_checkpoint(store, exp_hash, 1, tmp_path / "x", **options)
    with pytest.raises(ValueError, match="key"):
        export_checkpoint(store, exp_hash, 1, store)


def test_what_is_not_there_is_said(exported, tmp_path):
    store, exp_hash = exported
    with pytest.raises(CheckpointNotFound, match="steps: 1"):
        export_checkpoint(store, exp_hash, 7, tmp_path / "x")
    with pytest.raises(UnknownExperiment):
        export_checkpoint(store, "0" * 16, 1, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_a_dtype_that_safetensors_has_not_is_named(tmp_path):
    store = MemoryStore(f"export {tmp_path}")
    manager = CheckpointManagerV2(store)
    model = Odd(more=torch.complex128)
    exp_hash, _ = manager.update_experiment_hash(model)
    manager.save_model_checkpoint(model, step=1)
    with pytest.raises(UnsavableState, match=r"torch_complex128 \(torch\.complex128\); export to='pt'"):
        export_checkpoint(store, exp_hash, 1, tmp_path / "x")
    export_checkpoint(store, exp_hash, 1, tmp_path / "x.pt", to="pt")
    assert same(dict(torch.load(tmp_path / "x.pt", weights_only=True)), dict(model.state_dict()))


@pytest.mark.parametrize("to", ["safetensors", "pt"])
def test_a_damaged_checkpoint_is_never_exported(exported, tmp_path, to):
    store, exp_hash = exported
    key = keys.checkpoint_key(exp_hash, 1)
    index = read_index(store, key)
    held = {ref.record for ref in index.state["model_state_dict"].values() if isinstance(ref, TensorRef)}
    for record in index.records:
        if record.name not in held or not record.size_bytes:
            continue
        damaged = FaultyStore(store, [FlipBit(record.offset + record.size_bytes - 1, key=key)])
        with pytest.raises(CorruptCheckpoint, match=f"{record.name} does not match its CRC32"):
            export_checkpoint(damaged, exp_hash, 1, tmp_path / "x", to=to)
        assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_half_there(exported, tmp_path):
    store, exp_hash = exported
    target = FaultyStore(LocalStore(tmp_path), [CutPut(2_000, StoreFull("no space"))])
    with pytest.raises(StoreFull):
        export_checkpoint(store, exp_hash, 1, target, key="x")
    assert [path for path in Path(tmp_path).rglob("*") if path.is_file()] == []


def test_a_file_of_torch_save_has_no_index_to_export_from(tmp_path):
    manager = CheckpointManagerV2(tmp_path)
    exp_hash, _ = manager.update_experiment_hash(nn.Linear(2, 2))
    path = tmp_path / keys.checkpoint_key(exp_hash, 1)
    path.parent.mkdir(parents=True)
    torch.save({"model_state_dict": {}}, path)
    with pytest.raises(UnsupportedFormat, match="written by another tool"):
        export_checkpoint(tmp_path, exp_hash, 1, tmp_path / "x")


@pytest.mark.parametrize("to", ["safetensors", "pt"])
@pytest.mark.parametrize("compressed", [False, True])
def test_an_export_and_a_look_at_every_byte_load_no_torch(tmp_path, to, compressed):
    with CheckpointManagerV2(tmp_path / "runs") as manager:
        manager.update_experiment_hash(Odd())
        for step in (1, 2):
            manager.save_model_checkpoint(Odd(), step=step)
    if compressed:
        assert compress(tmp_path / "runs", steps=[1]).changed
    program = (
        "import sys; from ckptstore import compress, export_checkpoint, verify\n"
        f"export_checkpoint('runs', {manager.exp_hash!r}, 1, 'model.{to}', to={to!r})\n"
        "assert verify('runs', deep=True).findings == ()\n"
        "sys.exit('torch' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
