"""Which folder a store is, and which URL it has."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from ckptstore.errors import (
    InvalidURL,
    KeyNotFound,
    StoreNotFound,
)
from ckptstore.store import open_store
from ckptstore_backends.local import LocalStore
from tests.local.folders import NOT_UTF8, everything


def test_a_missing_root_is_an_empty_store_and_is_made_by_the_first_put(tmp_path):
    store = LocalStore(tmp_path / "not" / "yet")
    assert [*store.list(), *store.list_prefixes(), *store.list_uploads()] == []
    with pytest.raises(KeyNotFound):
        store.get("k")
    store.delete(["k", "a/b"])
    assert everything(tmp_path) == []
    store.put("a/b", b"x")
    assert everything(tmp_path) == ["not", "not/yet", "not/yet/a", "not/yet/a/b"]


def test_a_root_that_is_a_file_is_said_to_be_one(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    store = LocalStore(tmp_path / "file")
    for act in (lambda: list(store.list()), lambda: list(store.list_prefixes()), lambda: store.put("k", b"x")):
        with pytest.raises(StoreNotFound, match="is not a folder"):
            act()
    with pytest.raises(KeyNotFound):
        store.get("k")
    assert (tmp_path / "file").read_bytes() == b"x"


def test_a_relative_root_stays_where_it_was_when_the_process_moves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = LocalStore("here/../there")
    monkeypatch.chdir("/")
    assert store.path("k") == tmp_path / "there" / "k"


def test_a_linked_root_and_linked_folders_are_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "data").symlink_to(tmp_path / "elsewhere")
    store = LocalStore(tmp_path / "link")
    store.put("data/k", b"x")
    assert (tmp_path / "elsewhere" / "k").read_bytes() == b"x"
    assert [info.key for info in store.list()] == ["data/k"]
    store.delete(["data/k"])
    assert (tmp_path / "elsewhere").is_dir()


def test_folders_linked_in_a_circle_are_listed_once(store):
    store.put("a/k", b"x")
    store.path("a/loop").symlink_to("../..", target_is_directory=True)
    store.path("a/self").symlink_to(".", target_is_directory=True)
    assert [info.key for info in store.list("a/")][:1] == ["a/k"]
    assert len(list(store.list())) < 10


@pytest.mark.parametrize("name", ["plain", "a b", "100%", "a%2Fb", "a#b", "a?b", "日本", *NOT_UTF8, "a;b&c=d", "~"])
def test_the_url_of_any_root_opens_it_again(tmp_path, name):
    store = LocalStore(tmp_path / name)
    assert open_store(store.url).path("k") == LocalStore.from_url(store.url).path("k") == tmp_path / name / "k"
    assert store.url == (tmp_path / name).as_uri()


def test_localhost_is_this_machine():
    assert LocalStore.from_url("file://localhost/a%20b").path("k") == Path("/a b/k")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("file://server/share", "host 'server'"),
        ("file://folder", "host 'folder'"),
        ("file://~/folder", "host '~'"),
        ("file://", "no absolute path"),
        ("file:///a?b", "%3F"),
        ("file:///a?", "%3F"),
        ("file:///a#b", "%23"),
        ("file:///a%00b", "no absolute path"),
    ],
)
def test_a_url_that_names_no_local_folder_is_refused(url, said):
    with pytest.raises(InvalidURL, match=said):
        open_store(url)


def test_an_unknown_option_is_a_type_error(tmp_path):
    with pytest.raises(TypeError, match="anon"):
        open_store(tmp_path, anon=True)


def test_a_store_can_be_pickled(store):
    store.put("k", b"x")
    assert bytes(pickle.loads(pickle.dumps(store)).get("k")) == b"x"
