"""Experiments for the tests of whole-experiment operations: real keys, small content, no torch."""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Iterable
from datetime import UTC, datetime

from ckptstore import keys
from ckptstore.store import Buffer, ObjectInfo, Store
from ckptstore.testing.faulty import FaultyStore
from ckptstore_backends.memory import MemoryStore

ONE, TWO, THREE = "1" * 16, "2" * 16, "3" * 16


@functools.cache
def archive(name: str, size_bytes: int = 300) -> bytes:
    """Return bytes that end as a checkpoint does, in a digest of what is before."""
    body = random.Random(name).randbytes(size_bytes)
    return body + b"PK\5\6" + bytes(18) + b"ckptstore1 " + hashlib.sha256(body).hexdigest().encode()


def lay_out(
    store: Store,
    exp_hash: str = ONE,
    steps: Iterable[int] = range(3),
    *,
    parent: str | None = None,
    size_bytes: int = 300,
    backup: bytes = b"a data backup",
) -> None:
    """Write an experiment with all its companions."""
    record = f"format: 1\nexp_hash: '{exp_hash}'\nparent: {repr(parent) if parent else 'null'}\n"
    objects: dict[str, bytes] = {
        keys.config_key(exp_hash): f"lr: 1  # {exp_hash}\n".encode(),
        keys.backup_key(exp_hash): backup,
        keys.backup_digest_key(keys.backup_key(exp_hash)): hashlib.sha256(backup).hexdigest().encode()
        + b"  data.h5\n",
        keys.provenance_key(exp_hash): record.encode(),
        keys.architecture_text_key(exp_hash): b"Net()\n",
        keys.architecture_key(exp_hash): b"skeleton of " + exp_hash.encode(),
    }
    for step in steps:
        objects[keys.checkpoint_key(exp_hash, step)] = archive(f"{exp_hash} {step}", size_bytes)
    for key, data in objects.items():
        store.put(key, data)


def contents(store: Store, prefix: str = "") -> dict[str, bytes]:
    """Return every object's bytes."""
    return {info.key: bytes(store.get(info.key)) for info in store.list(prefix)}


def check_safe_to_read(store: Store, *, while_replacing: bool = False) -> None:
    """Assert what a reader of a target may rely on at any moment: nothing points to what is not there.

    While a backup is being replaced it is without its checksum.
    """
    there = {info.key for info in store.list(keys.CHECKPOINTS)}
    for key in there:
        parsed = keys.parse_key(key)
        assert parsed is not None, key
        exp_hash = parsed.exp_hash
        companions = {
            keys.config_key(exp_hash),
            keys.backup_key(exp_hash),
            keys.architecture_text_key(exp_hash),
            keys.architecture_key(exp_hash),
            *([] if while_replacing else [keys.backup_digest_key(keys.backup_key(exp_hash))]),
        }
        if parsed.step is not None:
            assert {*companions, keys.provenance_key(exp_hash)} <= there, key
            assert bytes(store.get(key)) == archive(f"{exp_hash} {parsed.step}", store.stat(key).size_bytes - 97)
        if parsed.kind is keys.Kind.PROVENANCE:
            assert companions <= there, key
            parent = bytes(store.get(key)).partition(b"parent: ")[2].strip(b"'\n")
            assert parent == b"null" or keys.provenance_key(parent.decode()) in there, key
        if parsed.kind is keys.Kind.BACKUP_DIGEST:
            digest = hashlib.sha256(store.get(key.removesuffix(".sha256"))).hexdigest().encode()
            assert bytes(store.get(key)).startswith(digest), key


class WatchedStore(MemoryStore):
    """A memory in which a reader looks round after every change."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.replacing = False

    def put(self, key: str, data: Buffer | Iterable[Buffer], *, overwrite: bool = True) -> ObjectInfo:
        info = super().put(key, data, overwrite=overwrite)
        check_safe_to_read(self, while_replacing=self.replacing)
        return info

    def delete(self, keys: Iterable[str]) -> None:
        super().delete(keys)
        check_safe_to_read(self, while_replacing=self.replacing)


class Clocked(FaultyStore):
    """A store whose objects were all written at a moment of the test's choosing."""

    def __init__(self, store: Store, modified: datetime) -> None:
        super().__init__(store)
        self._modified = modified.astimezone(UTC)

    def _list(self, prefix):
        for info in super()._list(prefix):
            yield ObjectInfo(info.key, info.size_bytes, self._modified, info.version, info.checksums)
