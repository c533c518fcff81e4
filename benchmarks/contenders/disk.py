"""Ways to save to a disk, and to load from its page cache."""

from __future__ import annotations

import os
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from benchmarks.contenders.contender import Contender, same
from benchmarks.states import MIB, Model


class DiskContender(Contender):
    """With a place of its own."""

    @cached_property
    def path(self) -> Path:
        """Where it saves."""
        return Path(self.setup.folder) / self.key

    @cached_property
    def manager(self) -> Any:
        """A manager with the state's experiment as the current one."""
        from ckptstore import CheckpointManagerV2

        manager = CheckpointManagerV2(self.path, save_rng=False)
        manager.update_experiment_hash(config={"shape": self.setup.shape})
        return manager

    def close(self) -> None:
        if self.path.is_dir():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)


class CkptstoreSave(DiskContender):
    """Ours: atomic and durable."""

    def prepare(self) -> None:
        self.model = Model(self.state)

    def run(self) -> object:
        return self.manager.save_model_checkpoint(self.model, step=1)

    def check(self) -> None:
        same(torch.load(self.run(), weights_only=True)["model_state_dict"], self.state)


class RawSave(DiskContender):
    """A write and an fsync of ready bytes, over a new file each time as a checkpoint is one."""

    def prepare(self) -> None:
        self.ready_bytes  # noqa: B018  # touches them

    def run(self) -> object:
        new = self.path.with_suffix(".new")
        with new.open("wb", buffering=0) as file:
            for start in range(0, len(self.ready_bytes), 16 * MIB):
                file.write(self.ready_bytes[start : start + 16 * MIB])
            os.fsync(file.fileno())
        new.replace(self.path)


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


class DcpSave(DiskContender):
    """torch.distributed.checkpoint, in one process; it syncs its files."""

    def run(self) -> object:
        from torch.distributed.checkpoint import FileSystemWriter, save

        return save(self.state, storage_writer=FileSystemWriter(self.path), no_dist=True)


class CkptstoreLoad(DiskContender):
    """Ours: every byte verified."""

    def prepare(self) -> None:
        self.manager.save_model_checkpoint(Model(self.state), step=1)

    def run(self) -> dict[str, Any]:
        return self.manager.load_checkpoint(step=1)

    def check(self) -> None:
        same(self.run()["model_state_dict"], self.state)


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


class DcpLoad(DiskContender):
    """torch.distributed.checkpoint, in one process, into tensors that are there."""

    def prepare(self) -> None:
        from torch.distributed.checkpoint import FileSystemWriter, save

        save(self.state, storage_writer=FileSystemWriter(self.path), no_dist=True)

    def run(self) -> dict[str, Any]:
        from torch.distributed.checkpoint import FileSystemReader, load

        state = {name: torch.empty_like(tensor) for name, tensor in self.state.items()}
        load(state, storage_reader=FileSystemReader(self.path), no_dist=True)
        return state

    def check(self) -> None:
        same(self.run(), self.state)


CONTENDERS = {
    "disk save: ckptstore": CkptstoreSave,
    "disk save: raw write + fsync": RawSave,
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
