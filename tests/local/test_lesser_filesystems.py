"""File systems without something: links, locks, copies in the kernel, folders that can be flushed."""

from __future__ import annotations

import errno
import itertools
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from ckptstore.errors import (
    KeyExists,
    UnsupportedOperation,
)
from tests.local.folders import everything

MIB = 1024 * 1024


def _refuse(*args, **kwargs):
    raise OSError(errno.EPERM, "not here")


def test_without_hard_links_one_of_racing_creators_still_wins(store, monkeypatch):
    monkeypatch.setattr(os, "link", _refuse)

    def create(racer):
        try:
            store.put("a/k", bytes([racer]), overwrite=False)
        except KeyExists:
            return []
        return [racer]

    with ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            [winner] = itertools.chain.from_iterable(pool.map(create, range(8)))
            assert bytes(store.get("a/k")) == bytes([winner])
            assert everything(store.path("a").parent) == ["a", "a/k"]
            store.delete(["a/k"])


def test_without_hard_links_and_locks_a_create_is_unsupported(store, monkeypatch):
    monkeypatch.setattr(os, "link", _refuse)
    monkeypatch.setattr("fcntl.flock", _refuse)
    with pytest.raises(UnsupportedOperation, match="overwrite=True"):
        store.put("k", b"x", overwrite=False)
    assert [*store.list(), *store.list_uploads()] == []


def test_a_link_whose_answer_was_lost_is_recognised(store, monkeypatch):
    link = os.link

    def link_twice(source, target):
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", link_twice)
    assert store.put("k", b"mine", overwrite=False).version == store.stat("k").version
    with pytest.raises(KeyExists):
        store.put("k", b"other", overwrite=False)


@pytest.mark.skipif(not hasattr(os, "copy_file_range"), reason="the system has no copy within the kernel")
def test_a_copy_that_the_kernel_refuses_half_way_is_finished_by_reading(store, monkeypatch):
    data = os.urandom(10 * MIB)
    store.put("k", data)
    in_kernel = os.copy_file_range

    def copy_some(source, target, count, offset):
        if offset:
            raise OSError(errno.EXDEV, "not across here")
        return in_kernel(source, target, 3 * MIB, offset)

    monkeypatch.setattr(os, "copy_file_range", copy_some)
    assert store.copy("k", "copy").size_bytes == len(data)
    assert bytes(store.get("copy")) == data


def test_folders_that_cannot_be_flushed_are_no_error(store, monkeypatch):
    fsync = os.fsync

    def files_only(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "a folder")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    store.put("a/b/k", b"x")
    assert bytes(store.get("a/b/k")) == b"x"
