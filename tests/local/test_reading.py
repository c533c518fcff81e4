"""Reading and listing a folder that others use too."""

from __future__ import annotations

import os

import pytest

from ckptstore.errors import (
    KeyNotFound,
    ObjectChanged,
)
from ckptstore.objects import ByteRange
from tests.local.folders import NOT_UTF8, everything


def test_a_file_changed_in_place_is_never_read_as_a_mix(store):
    store.put("k", b"a" * 100)
    parts = store.get_ranges("k", [ByteRange(0, 50), ByteRange(50, 50)])
    assert next(parts) == b"a" * 50
    with store.path("k").open("r+b") as file:
        file.write(b"b" * 100)
    with pytest.raises(ObjectChanged, match="k"):
        next(parts)


def test_a_file_cut_short_in_place_is_an_error(store):
    store.put("k", b"a" * 100)
    parts = store.get_ranges("k", [ByteRange(0, 50), ByteRange(50, 50)])
    next(parts)
    os.truncate(store.path("k"), 60)
    with pytest.raises(ObjectChanged):
        next(parts)


def test_an_object_deleted_while_it_is_read_is_read_to_its_end(store):
    store.put("k", b"abcdef")
    parts = store.get_ranges("k", [ByteRange(0, 3), ByteRange(3)])
    assert next(parts) == b"abc"
    store.delete(["k"])
    assert next(parts) == b"def"


def test_what_is_read_can_be_written_into(store):
    store.put("k", b"abc")
    assert not store.get("k").readonly
    assert not next(store.get_ranges("k", [ByteRange(0)])).readonly


def test_foreign_files_are_neither_listed_nor_touched(store):
    store.put("a/k", b"x")
    folder = store.path("a")
    for name in ("glob*", "line\nbreak", "back\\slash", ".ckptstore-foreign", *NOT_UTF8):
        (folder / name).write_bytes(b"not ours")
    (folder / "folder[1]").mkdir()
    (folder / "folder[1]" / "k").write_bytes(b"not ours")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "circle").symlink_to("circle")
    os.mkfifo(folder / "pipe")
    before = everything(folder)
    assert [info.key for info in store.list()] == ["a/k"]
    assert [*store.list_prefixes("a/"), *store.list_uploads()] == []
    store.delete(["a/k"])
    assert sorted({*everything(folder), "k"}) == before
    assert list(store.list_prefixes()) == []


def test_a_named_pipe_is_no_object_and_nobody_waits_for_it(store):
    store.put("k", b"x")
    os.mkfifo(store.path("pipe"))
    for read in (lambda: store.get("pipe"), lambda: store.stat("pipe"), lambda: store.copy("pipe", "k")):
        with pytest.raises(KeyNotFound):
            read()


def test_what_vanishes_during_a_listing_is_left_out(store):
    for key in ("a/1", "a/2", "b/3", "c/4"):
        store.put(key, b"x")
    listing = store.list()
    assert next(listing).key == "a/1"
    store.delete(["a/2", "b/3"])
    assert [info.key for info in listing] == ["c/4"]


def test_folders_without_objects_are_no_prefixes(store):
    store.put("x/k", b"x")
    store.path("empty/er").mkdir(parents=True)
    store.path("x/empty").mkdir()
    assert list(store.list_prefixes()) == ["x/"]
    assert list(store.list_prefixes("x/")) == []


def test_delete_removes_folders_that_it_empties_but_not_the_root(store):
    store.put("a/b/c/one", b"x")
    store.put("a/two", b"x")
    root = store.path("a").parent
    store.delete(["a/b/c/one"])
    assert everything(root) == ["a", "a/two"]
    store.delete(["a/two"])
    assert everything(root) == []
    assert root.is_dir()


def test_a_file_is_an_object_whoever_wrote_it(store):
    store.path("logs").mkdir(parents=True)
    store.path("logs/train.log").write_text("epoch 1\n")
    assert [(info.key, info.size_bytes) for info in store.list()] == [("logs/train.log", 8)]
    assert bytes(store.get("logs/train.log")) == b"epoch 1\n"
