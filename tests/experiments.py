"""Small experiments that the tests of whole-experiment operations share."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import torch

from ckptstore import CheckpointManagerV2, keys, open_store
from ckptstore.archive import plan
from ckptstore.store import Store
from ckptstore_backends.memory import MemoryStore
from tests.models import Net


def fresh_memory() -> MemoryStore:
    """Return an empty store in memory."""
    return MemoryStore(uuid.uuid4().hex)


def new_experiment(store: Store, *, config: int = 1, steps: tuple[int, ...] = (1, 2)) -> str:
    """Write an experiment with some checkpoints and return its hash; no manager is left that works on it."""
    with CheckpointManagerV2(store) as manager:
        manager.update_experiment_hash(Net(4), {"config": config})
        for step in steps:
            manager.save_model_checkpoint(Net(4), step=step, metadata={"loss": 1 / (step + 1)})
    return str(manager.exp_hash)


def put_checkpoint(
    store: Store,
    exp_hash: str,
    step: int,
    metadata: dict[str, object] | None = None,
    *,
    saved_at: datetime | None = None,
    value: float = 0.0,
) -> str:
    """Write a small sound checkpoint and return its key."""
    key = keys.checkpoint_key(exp_hash, step)
    state = {
        "format": 1,
        "step": step,
        "exp_hash": exp_hash,
        "timestamp": (saved_at or datetime.now(UTC)).isoformat(),
        "model_state_dict": {"w": torch.full((3,), value)},
        "metadata": metadata or {},
    }
    store.put(key, plan(state).buffers())
    return key


def make_old(store: Store, age: timedelta, prefix: str = keys.CHECKPOINTS) -> None:
    """Let everything under a prefix be older than it is, on a disk or in memory; what is newer stays newer."""
    import os

    from fsspec.implementations.memory import MemoryFileSystem

    for info in store.list(prefix):
        path = store.path(info.key)
        if isinstance(path, Path):
            found = path.stat()
            moved = found.st_mtime_ns - int(age.total_seconds() * 1e9)
            os.utime(path, ns=(moved, moved))
        else:
            MemoryFileSystem.store["/" + str(path).removeprefix("memory://").lstrip("/")].modified -= age


def copied(store: Store, target: Store | None = None) -> Store:
    """Copy a whole store, by default into a fresh memory."""
    other = fresh_memory() if target is None else target
    for info in store.list():
        store.copy(info.key, info.key, target=other)
    return other


def flip(store: Store, key: str, offset: int, bit: int = 0) -> None:
    """Flip one bit of an object; a negative offset counts from its end."""
    data = bytearray(store.get(key))
    data[offset] ^= 1 << bit
    store.put(key, data)


def folder(path: Path) -> Store:
    """Return the store in a folder."""
    return open_store(path)


def begin_upload(store: Store, key: str) -> None:
    """Begin an upload to a bucket that nobody will finish, past the store.

    Args:
        store: an `S3Store`.
        key: that it would be published under.
    """
    client: Any = store
    client._client.call("create_multipart_upload", key=key)
