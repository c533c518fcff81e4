"""What a file system refuses: the old object stays, no debris does, and one error says why."""

from __future__ import annotations

import errno
import itertools
import os
import resource
import shutil
import tempfile
from pathlib import Path

import pytest

from ckptstore.errors import (
    AccessDenied,
    InvalidKey,
    StoreError,
    StoreFull,
)
from ckptstore.testing.processes import in_processes
from ckptstore_backends.local import LocalStore
from tests.local.folders import everything

MIB = 1024 * 1024


@pytest.fixture
def public_folder():
    """A folder that an unprivileged user reaches too, which tmp_path is not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("step", ["write", "fsync", "replace", "link"])
def test_a_write_that_fails_at_any_step_leaves_the_old_object_and_no_debris(store, monkeypatch, step, code):
    store.put("a/old", b"old")
    before = everything(store.path("a").parent)

    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, step, fail)
    expected = StoreError if code == errno.EIO else StoreFull
    if step != "link":
        with pytest.raises(expected, match="a/old"):
            store.put("a/old", iter([b"new", b"er"]))
    if step != "replace":
        with pytest.raises(expected, match="b/new"):
            store.put("b/new", b"x", overwrite=False)
    monkeypatch.undo()
    assert bytes(store.get("a/old")) == b"old"
    assert everything(store.path("a").parent) == before


@pytest.mark.parametrize("step", ["open", "write", "fsync", "replace"])
def test_an_interrupt_at_any_step_leaves_the_old_object_and_no_debris(store, monkeypatch, step):
    store.put("a/old", b"old")

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, step, interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.put("a/old", b"new")
        with pytest.raises(KeyboardInterrupt):
            store.put("fresh/folder/k", b"new")
    assert bytes(store.get("a/old")) == b"old"
    assert everything(store.path("a").parent) == ["a", "a/old"]


def test_a_disk_that_fills_up_leaves_the_old_object_and_no_debris(store):
    store.put("a/old", b"old")
    assert in_processes("fork", _fill, [(store,)]) == [["StoreFull"] * 4]
    assert bytes(store.get("a/old")) == b"old"
    assert everything(store.path("a").parent) == ["a", "a/old", "a/source"]


def _fill(store):
    store.put("a/source", bytes(2 * MIB))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, resource.RLIM_INFINITY))  # the system refuses to write on
    attempts = [
        lambda: store.put("a/old", bytes(2 * MIB)),
        lambda: store.put("a/old", itertools.repeat(bytes(1000), 5000)),
        lambda: store.put("b/new", bytes(2 * MIB), overwrite=False),
        lambda: store.copy("a/source", "a/old"),
    ]
    return [_outcome(attempt) for attempt in attempts]


def _outcome(attempt):
    try:
        attempt()
    except StoreError as error:
        return type(error).__name__
    return "no error"


def test_a_folder_without_rights_denies_access(public_folder):
    store = LocalStore(public_folder)
    store.put("readable/k", b"x")
    store.put("secret/k", b"x")
    store.path("secret").chmod(0o000)
    store.path("readable").chmod(0o555)
    try:
        assert in_processes("fork", _act_as_nobody, [(store,)]) == [["AccessDenied"] * 7 + ["k", 1]]
    finally:
        store.path("secret").chmod(0o755)
        store.path("readable").chmod(0o755)
    assert everything(public_folder) == ["readable", "readable/k", "secret", "secret/k"]


def _act_as_nobody(store):
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
    attempts = [
        lambda: store.put("readable/k", b"new"),
        lambda: store.put("readable/new", b"new", overwrite=False),
        lambda: store.put("secret/k", b"new"),
        lambda: store.get("secret/k"),
        lambda: store.stat("secret/k"),
        lambda: list(store.list()),
        lambda: store.delete(["gone", "readable/k", "secret/k"]),
    ]
    return [*map(_outcome, attempts), next(store.list()).key.rpartition("/")[2], len(store.get("readable/k"))]


def test_delete_goes_on_after_one_that_fails_and_names_it(public_folder):
    store = LocalStore(public_folder)
    for key in ("locked/a", "locked/b", "open/c"):
        store.put(key, b"x")
    store.path("locked").chmod(0o555)
    store.path("open").chmod(0o777)
    try:
        said = in_processes("fork", _delete_as_nobody, [(store, ["locked/a", "locked/b", "open/c"])])
    finally:
        store.path("locked").chmod(0o755)
    assert "'locked/a'" in said[0]
    assert [info.key for info in store.list()] == ["locked/a", "locked/b"]


def _delete_as_nobody(store, keys):
    if os.geteuid() == 0:
        os.setuid(65534)
    with pytest.raises(AccessDenied) as raised:
        store.delete(keys)
    return str(raised.value)


def test_a_file_where_a_folder_is_needed_is_an_invalid_key(store):
    store.put("a", b"x")
    for write in (
        lambda: store.put("a/b", b"y"),
        lambda: store.put("a/b/c", b"y", overwrite=False),
        lambda: store.copy("a", "a/b"),
    ):
        with pytest.raises(InvalidKey, match="a/b"):
            write()
    assert everything(store.path("a").parent) == ["a"]


def test_a_folder_where_a_file_is_needed_is_an_invalid_key(store):
    store.put("a/b", b"x")
    for write in (
        lambda: store.put("a", b"y"),
        lambda: store.put("a", b"y", overwrite=False),
        lambda: store.copy("a/b", "a"),
    ):
        with pytest.raises(InvalidKey, match="'a'"):
            write()
    assert everything(store.path("a").parent) == ["a", "a/b"]


def test_a_path_too_long_for_the_system_is_an_invalid_key(tmp_path):
    store = LocalStore(tmp_path.joinpath(*["x" * 250] * 17))
    for act in (lambda: store.put("k", b"x"), lambda: store.get("k"), lambda: store.stat("k")):
        with pytest.raises(InvalidKey, match="shorter path"):
            act()
    assert everything(tmp_path) == []
