"""The contract of Store, kept by the stores that need no service."""

from __future__ import annotations

import subprocess
import sys
import textwrap
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


def test_a_deviation_must_name_a_test():
    with pytest.raises(TypeError, match="test_misspelled"):
        type("TestIt", (StoreTests,), {"deviations": {"test_misspelled": "a reason"}})


def test_a_deviation_that_is_none_fails_and_a_real_one_is_reported_with_its_reason(tmp_path):
    source = """
        import pytest
        from ckptstore.testing import StoreTests
        from ckptstore_backends.memory import MemoryStore

        class TestIt(StoreTests):
            deviations = {
                "test_close_may_be_called_twice": "not so",
                "test_a_range_is_clipped_to_the_object[the beginning]": "the hook lies",
            }

            @pytest.fixture
            def store(self):
                return MemoryStore("it")

            def seed(self, store, key, data):
                store.put(key, b"something else")

            def peek(self, store, key):
                return bytes(store.get(key))
    """
    (tmp_path / "test_it.py").write_text(textwrap.dedent(source))
    chosen = ["-k", "called_twice or (clipped and beginning)", "-p", "no:cacheprovider", "-rxX", "-o", "addopts="]
    command = [sys.executable, "-m", "pytest", "--rootdir", str(tmp_path), *chosen, str(tmp_path / "test_it.py")]
    said = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False).stdout
    assert "[XPASS(strict)] not so" in said
    assert "TestIt::test_a_range_is_clipped_to_the_object[the beginning] - the hook lies" in said
    assert "1 failed, " in said
    assert "1 xfailed" in said
