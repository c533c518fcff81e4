"""What the memory of a process adds to the contract of Store."""

from __future__ import annotations

from uuid import uuid4

import pytest
from upath import UPath

from ckptstore.errors import InvalidKey, InvalidURL, KeyNotFound
from ckptstore.store import open_store
from ckptstore_backends.memory import MemoryStore


@pytest.fixture
def name():
    name = f"memory-{uuid4().hex}"
    yield name
    with MemoryStore(name) as store:
        store.delete([info.key for info in store.list()])


def test_stores_of_one_name_share_their_objects(name):
    MemoryStore(name).put("k", b"x")
    again = open_store(f"memory://{name}")
    assert type(again) is MemoryStore
    assert bytes(again.get("k")) == b"x"
    assert again.url == f"memory://{name}"


def test_stores_of_other_names_do_not(name):
    MemoryStore(name).put("k", b"x")
    other = MemoryStore(f"{name}-2")
    assert list(other.list()) == []
    with pytest.raises(KeyNotFound):
        other.get("k")


def test_a_name_may_be_a_folder_of_another(name):
    MemoryStore(f"{name}/inner").put("k", b"x")
    assert [info.key for info in MemoryStore(name).list()] == ["inner/k"]


def test_the_path_can_be_read_and_written_by_others(name):
    store = MemoryStore(name)
    store.put("folder/k 100%#", b"mine")
    path = store.path("folder/k 100%#")
    assert isinstance(path, UPath)
    assert path.read_bytes() == b"mine"
    path.write_bytes(b"theirs")
    assert bytes(store.get("folder/k 100%#")) == b"theirs"
    assert [p.name for p in path.parent.iterdir()] == ["k 100%#"]


def test_the_same_bytes_put_again_are_another_version(name):
    store = MemoryStore(name)
    assert len({store.put("k", b"same").version for _ in range(100)}) == 100


def test_it_says_that_it_does_not_last(name):
    said = MemoryStore(name).capabilities
    assert not said.durable
    assert said.atomic_create
    assert "this process alone" in said.limits[0]


@pytest.mark.parametrize("url", ["memory://", "memory:///", "memory://a?b", "memory://../a", "memory:///a"])
def test_a_url_without_a_proper_name_is_refused(url):
    with pytest.raises(InvalidURL, match="name"):
        open_store(url)


def test_a_name_outside_the_grammar_is_refused():
    with pytest.raises(InvalidKey):
        MemoryStore("../a")


def test_an_unknown_option_is_a_type_error():
    with pytest.raises(TypeError, match="anon"):
        open_store("memory://a", anon=True)
