"""A hundred training steps with a save after every tenth: what training loses to it.

Seen from outside, as wall time. Ours goes to a store that reads what it is given and keeps nothing, so that what is
left is the copy, and the work beside the training that shares its cores.
"""

from __future__ import annotations

import ctypes
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from benchmarks.contenders.contender import Contender
from benchmarks.states import Model
from ckptstore import CheckpointManagerV2, ObjectInfo
from ckptstore.snapshot import SnapshotPool
from ckptstore_backends.memory import MemoryStore

_STEPS, _EVERY = 100, 10
_WIDTH = 384
_TOUCHED = 32


class Discarding(MemoryStore):
    """Keeps the small objects, and one byte of each checkpoint."""

    def _put(self, key: str, body: Any) -> ObjectInfo:
        if not key.endswith(".pt"):
            return super()._put(key, body)
        for _ in [body] if isinstance(body, memoryview) else body:
            pass
        return super()._put(key, memoryview(b"."))


class Training(Contender):
    """Steps that compute for some milliseconds, then change some of the weights; nothing is saved."""

    @cached_property
    def manager(self) -> CheckpointManagerV2:
        """A manager with the model's experiment as the current one."""
        manager = CheckpointManagerV2(self.store, save_rng=False)
        manager.update_experiment_hash(self.model)
        return manager

    @cached_property
    def model(self) -> Model:
        """What is trained."""
        return Model(self.state)

    @cached_property
    def store(self) -> Any:
        """Where ours saves."""
        return Discarding("benchmark")

    @cached_property
    def path(self) -> Path:
        """Where the others save."""
        return Path(self.setup.folder) / self.key

    def prepare(self) -> None:
        self.matrix = torch.randn(_WIDTH, _WIDTH)
        self.some = list(self.model.state_dict().values())[:_TOUCHED]

    def run(self) -> object:
        for step in range(_STEPS):
            self._train()
            if step % _EVERY == _EVERY - 1:
                self.save(step)
        self.flush()
        return None

    def save(self, step: int) -> None:
        """Save; this one does not."""

    def flush(self) -> None:
        """Wait until everything is saved."""

    def _train(self) -> None:
        for _ in range(8):
            self.matrix @ self.matrix
        for tensor in self.some:
            tensor.mul_(0.999)


class CopyingOnAllCores(Training):
    """With one copy of the state's bytes in place of each save, by torch's threads."""

    def prepare(self) -> None:
        super().prepare()
        self.source = torch.ones(self.shape.size_bytes, dtype=torch.uint8)
        self.target = torch.ones(self.shape.size_bytes, dtype=torch.uint8)

    def save(self, step: int) -> None:
        self.target.copy_(self.source)


class Copying(CopyingOnAllCores):
    """With one memcpy of the state's bytes in place of each save."""

    def save(self, step: int) -> None:
        ctypes.memmove(self.target.data_ptr(), self.source.data_ptr(), self.shape.size_bytes)


class Uploading(Training):
    """No training: as many copies, taken before, written to nowhere."""

    def prepare(self) -> None:
        self.snapshot = SnapshotPool().take({"model_state_dict": self.model.state_dict()})

    def run(self) -> object:
        with Path("/dev/null").open("wb", buffering=0) as nowhere:
            for _ in range(_STEPS // _EVERY):
                nowhere.writelines(self.snapshot.stream().buffers())
        return None


class Beside(Training):
    """Ours, with ``blocking=False``."""

    def save(self, step: int) -> None:
        self.manager.save_model_checkpoint(self.model, step=step, blocking=False)

    def flush(self) -> None:
        self.manager.flush()


class Blocking(Training):
    """Ours, waiting for each save."""

    def save(self, step: int) -> None:
        self.manager.save_model_checkpoint(self.model, step=step)


class BesideOnDisk(Beside):
    """Ours, with ``blocking=False``, to a disk."""

    @cached_property
    def store(self) -> Any:
        """Where it saves."""
        return self.path


class TorchSave(Training):
    """torch.save to a disk, not synced."""

    def save(self, step: int) -> None:
        torch.save({"model_state_dict": self.model.state_dict()}, self.path)


class DcpAsync(Training):
    """torch.distributed.checkpoint beside the training, to a disk."""

    pending: Any = None

    def save(self, step: int) -> None:
        from torch.distributed.checkpoint import FileSystemWriter, async_save

        self.flush()
        self.pending = async_save(self.model.state_dict(), storage_writer=FileSystemWriter(self.path), no_dist=True)

    def flush(self) -> None:
        if self.pending is not None:
            self.pending.result()


CONTENDERS = {
    "train: no saving": Training,
    "train: one memcpy for each save": Copying,
    "train: one copy on all cores for each save": CopyingOnAllCores,
    "train: uploads alone, to nowhere": Uploading,
    "train: ckptstore, beside, discarded": Beside,
    "train: ckptstore, waiting, discarded": Blocking,
    "train: ckptstore, beside, to disk": BesideOnDisk,
    "train: torch.save to disk": TorchSave,
    "train: torch DCP async_save to disk": DcpAsync,
}
