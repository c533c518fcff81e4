"""Ways to save to a disk, and to load from its page cache."""

from __future__ import annotations

import os
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from benchmarks.contenders.contender import Contender, ManagedLoad, ManagedSave, same, same_bytes
from benchmarks.states import MIB


class DiskContender(Contender):
    """With a place of its own."""

    @cached_property
    def path(self) -> Path:
        """Where it saves."""
        return Path(self.setup.folder) / self.key

    @property
    def place(self) -> tuple[str, dict[str, Any]]:
        """Where ours saves."""
        return str(self.path), {}

    def close(self) -> None:
        if self.path.is_dir():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)


class CkptstoreSave(ManagedSave, DiskContender):
    """Ours."""


class RawSave(DiskContender):
    """A write and an fsync of ready bytes, to a new file each time as a checkpoint is one."""

    flags = 0

    def prepare(self) -> None:
        self.ready_bytes  # noqa: B018  # touches them

    def run(self) -> object:
        new = self.path.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | self.flags, 0o600)
        try:
            at = 0
            while at < len(self.ready_bytes):
                at += os.write(descriptor, self.ready_bytes[at : at + 16 * MIB])
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        new.replace(self.path)

    def check(self) -> None:
        same_bytes(self.path.read_bytes(), self.ready_bytes)


class RawDirectSave(RawSave):
    """The same past the page cache, straight out of the memory that is there."""

    flags = os.O_DIRECT


class TorchSave(DiskContender):
    """Plain torch.save: neither atomic nor durable."""

    def run(self) -> object:
        torch.save({"model_state_dict": self.state}, self.path)

    def check(self) -> None:
        same(torch.load(self.path, weights_only=True)["model_state_dict"], self.state)


class TorchSaveSynced(TorchSave):
    """torch.save and an fsync."""

    def run(self) -> object:
        with self.path.open("wb") as file:
            torch.save({"model_state_dict": self.state}, file)
            file.flush()
            os.fsync(file.fileno())


class SafetensorsSave(DiskContender):
    """Neither atomic nor durable; tensors only."""

    def run(self) -> object:
        from safetensors.torch import save_file

        save_file(self.state, self.path)

    def check(self) -> None:
        from safetensors.torch import load_file

        found = load_file(self.path)
        same({name: found[name] for name in self.state}, self.state)


class Dcp(DiskContender):
    """torch.distributed.checkpoint, in one process; it syncs its files."""

    def save(self) -> object:
        """Save the state."""
        from torch.distributed.checkpoint import FileSystemWriter, save

        return save(self.state, storage_writer=FileSystemWriter(self.path), no_dist=True)

    def load(self) -> dict[str, Any]:
        """Load it into tensors that are there."""
        from torch.distributed.checkpoint import FileSystemReader, load

        state = {name: torch.empty_like(tensor) for name, tensor in self.state.items()}
        load(state, storage_reader=FileSystemReader(self.path), no_dist=True)
        return state

    def check(self) -> None:
        same(self.load(), self.state)


class DcpSave(Dcp):
    """It saves."""

    def run(self) -> object:
        return self.save()


class CkptstoreLoad(ManagedLoad, DiskContender):
    """Ours."""


class CkptstoreMapped(CkptstoreLoad):
    """Ours, mapped: bytes are read when they are looked at."""

    def run(self) -> dict[str, Any]:
        return self.manager.load_checkpoint(step=1, mmap=True)


class TorchLoad(DiskContender):
    """Nothing is verified."""

    def prepare(self) -> None:
        torch.save({"model_state_dict": self.state}, self.path)

    def run(self) -> dict[str, Any]:
        return torch.load(self.path, weights_only=True)

    def check(self) -> None:
        same(self.run()["model_state_dict"], self.state)


class TorchMapped(TorchLoad):
    """Bytes are read when they are looked at."""

    def run(self) -> dict[str, Any]:
        return torch.load(self.path, weights_only=True, mmap=True)


class SafetensorsLoad(SafetensorsSave):
    """Mapped, copied into tensors."""

    def prepare(self) -> None:
        super().run()

    def run(self) -> dict[str, Any]:
        from safetensors.torch import load_file

        return load_file(self.path)


class DcpLoad(Dcp):
    """It loads."""

    def prepare(self) -> None:
        self.save()

    def run(self) -> dict[str, Any]:
        return self.load()


CONTENDERS = {
    "disk save: ckptstore": CkptstoreSave,
    "disk save: raw write + fsync": RawSave,
    "disk save: raw O_DIRECT write + fsync": RawDirectSave,
    "disk save: torch.save": TorchSave,
    "disk save: torch.save + fsync": TorchSaveSynced,
    "disk save: safetensors": SafetensorsSave,
    "disk save: torch DCP": DcpSave,
    "disk load: ckptstore": CkptstoreLoad,
    "disk load: ckptstore, mmap": CkptstoreMapped,
    "disk load: torch.load": TorchLoad,
    "disk load: torch.load, mmap": TorchMapped,
    "disk load: safetensors": SafetensorsLoad,
    "disk load: torch DCP": DcpLoad,
}
