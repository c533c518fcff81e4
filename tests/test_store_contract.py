"""The contract of Store, kept by the stores that need no service."""

from __future__ import annotations

from typing import ClassVar
from uuid import uuid4

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from ckptstore.testing import FaultyStore, StoreTests
from ckptstore_backends.local import LocalStore
from ckptstore_backends.memory import MemoryStore


class OnDisk(StoreTests):
    def seed(self, store, key, data):
        store.path(key).parent.mkdir(parents=True, exist_ok=True)
        store.path(key).write_bytes(data)

    def peek(self, store, key):
        return store.path(key).read_bytes() if store.path(key).is_file() else None


class TestLocalStore(OnDisk):
    @pytest.fixture
    def store(self, tmp_path):
        return LocalStore(tmp_path / "root")


class TestFaultyStoreWithoutFaults(OnDisk):
    @pytest.fixture
    def store(self, tmp_path):
        return FaultyStore(LocalStore(tmp_path))


class TestMemoryStore(StoreTests):
    deviations: ClassVar = dict.fromkeys(
        (
            "test_a_listing_shows_what_another_process_wrote",
            "test_one_of_racing_processes_wins",
            "test_processes_may_replace_one_object_at_once",
        ),
        "each process has a memory of its own",
    )

    @pytest.fixture
    def store(self):
        with MemoryStore(f"contract-{uuid4().hex}") as store:
            yield store
            store.delete([info.key for info in store.list()])

    def seed(self, store, key, data):
        MemoryFileSystem().pipe_file(f"{store.url}/{key}", data)

    def peek(self, store, key):
        found = MemoryFileSystem.store.get(f"{store.url.removeprefix('memory:/')}/{key}")
        return None if found is None else found.getvalue()
