"""What was put survives; what was not put to its end is found and removed."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ckptstore.errors import (
    StoreError,
)
from ckptstore.objects import Upload
from ckptstore_backends.local import LocalStore
from tests.local.folders import everything

MIB = 1024 * 1024


@pytest.fixture
def events(monkeypatch):
    """What is flushed, by inode, and what is renamed or linked, in order."""
    seen = []

    def watch(name, tell):
        real = getattr(os, name)

        def watched(*args, **kwargs):
            seen.append((name, tell(*args)))
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, watched)

    watch("fsync", lambda descriptor: os.fstat(descriptor).st_ino)
    watch("replace", lambda _, target: Path(target).name)
    watch("link", lambda _, target: Path(target).name)
    return seen


def test_an_object_is_flushed_before_it_gets_its_name_and_the_name_after(store, events):
    store.put("k", b"x")
    events.clear()
    store.put("k", b"y")
    found, folder = store.path("k").stat(), store.path("k").parent.stat()
    assert events == [("fsync", found.st_ino), ("replace", "k"), ("fsync", folder.st_ino)]


def test_a_created_object_is_flushed_before_it_gets_its_name_and_the_name_after(store, events):
    store.put("other", b"x")
    events.clear()
    store.put("k", b"y", overwrite=False)
    found, folder = store.path("k").stat(), store.path("k").parent.stat()
    assert events == [("fsync", found.st_ino), ("link", "k"), ("fsync", folder.st_ino)]


def test_new_folders_are_flushed_into_those_above_them(tmp_path, events):
    LocalStore(tmp_path / "root").put("a/b/k", b"x")
    flushed = [inode for name, inode in events if name == "fsync"]
    folders = [tmp_path, tmp_path / "root", tmp_path / "root" / "a"]
    assert flushed[:3] == [folder.stat().st_ino for folder in folders]


def test_files_and_folders_follow_the_umask(store):
    before = os.umask(0o027)
    try:
        store.put("a/k", b"x")
        store.put("a/created", b"x", overwrite=False)
    finally:
        os.umask(before)
    assert [store.path(key).stat().st_mode & 0o777 for key in ("a/k", "a/created")] == [0o640, 0o640]
    assert store.path("a").stat().st_mode & 0o777 == 0o750


def test_versions_differ_however_fast_an_object_is_replaced(store):
    assert len({store.put("k", b"same").version for _ in range(50)}) == 50


def test_an_iterable_is_written_in_bounded_memory(store):
    chunk = bytes(MIB)
    tracemalloc.start()
    try:
        store.put("k", itertools.repeat(chunk, 64))
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()
    assert store.stat("k").size_bytes == 64 * MIB


_WRITE_FOR_EVER = """
import itertools, sys
from ckptstore_backends.local import LocalStore
def parts():
    yield bytes(100_000)
    print("written", flush=True)
    sys.stdin.read()
LocalStore(sys.argv[1]).put(sys.argv[2], parts())
"""


def test_a_killed_writer_leaves_debris_that_is_reported_and_can_be_removed(tmp_path):
    store, key = LocalStore(tmp_path), "a/" + "k" * 200
    store.put("a/other", b"x")
    command = [sys.executable, "-c", _WRITE_FOR_EVER, str(tmp_path), key]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
    assert [info.key for info in store.list()] == ["a/other"]
    assert list(store.list_prefixes()) == ["a/"]
    [upload] = store.list_uploads("a/")
    assert upload.key == key
    assert abs((datetime.now(UTC) - upload.started).total_seconds()) < 3600
    assert list(store.list_uploads("b/")) == []
    store.delete(["a/other"])
    assert list(store.list_prefixes()) == []
    store.abort_upload(upload)
    store.abort_upload(upload)
    assert everything(tmp_path) == []


def test_a_write_that_was_aborted_by_somebody_else_publishes_nothing(store):
    def parts():
        yield b"x"
        for upload in store.list_uploads():
            store.abort_upload(upload)

    with pytest.raises(StoreError, match="removed meanwhile"):
        store.put("a/k", parts())
    assert list(store.list()) == []


@pytest.mark.parametrize(
    "upload_id", ["k", "../k", "", ".ckptstore-", ".ckptstore-0000000000000000-0000000000000000-x/../../k"]
)
def test_abort_removes_nothing_but_unfinished_writes(store, upload_id):
    store.put("k", b"x")
    with pytest.raises(StoreError, match="no unfinished write"):
        store.abort_upload(Upload("k", upload_id, datetime.now(UTC)))
    with pytest.raises(StoreError, match="no unfinished write"):
        store.abort_upload(Upload("../k", ".ckptstore-0000000000000000-0000000000000000-k", datetime.now(UTC)))
    assert bytes(store.get("k")) == b"x"
