"""Keys, addresses, and what a store says of itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ckptstore.errors import InvalidKey, KeyNotFound
from ckptstore.objects import MAX_SEGMENT_BYTES, ByteRange, Capabilities
from ckptstore.store import Store
from ckptstore.testing.medium import Medium

__all__ = ["AddressingTests"]

_BAD_KEYS = [
    "", "/", "/b", "a//b", "a/", ".", "..", "../outside", "a/../../outside", "a/.", "a\\b", "..\\outside",
    "a\x00b", "line\nbreak", "tab\t", "del\x7f", "c1\x85", "a*", "a?", "a[b", "a]b", "\udc80", "\uffff",
    "x" * (MAX_SEGMENT_BYTES + 1), "é" * (MAX_SEGMENT_BYTES // 2) + "x", "/".join(["x" * 99] * 10),
    ".ckptstore-x", "a/.ckptstore-x/b",
]  # fmt: skip
_GOOD_KEYS = [
    "k", "x" * MAX_SEGMENT_BYTES, "é" * (MAX_SEGMENT_BYTES // 2) + "/k", "/".join(["x" * 99] * 9),
    "e\u0301 combining", "日本語/キー", " leading and trailing ", "a+b", "100%", "a%2Fb", "a&b=c", "a=b/c=d", "a#b",
    ".hidden", "...", "a..b", "~home/x", "a:b", "c:/d", "s3:/x", "a;b,c", "'quoted\"", "<xml>", "{x}", "$HOME",
    "~", "astral 😀/𐍈", "a|b", "-rf", "@x", "!x", ".ckptstore", "com1.txt", "a.tmp",
]  # fmt: skip


class AddressingTests(Medium):
    """What keys, `path`, `url` and `capabilities` promise."""

    @pytest.mark.parametrize("key", _BAD_KEYS)
    def test_a_key_outside_the_grammar_is_refused_at_once_everywhere(self, store: Store, key: str) -> None:
        calls: list[Callable[[], object]] = [
            lambda: store.path(key),
            lambda: store.get(key),
            lambda: store.get_ranges(key, [ByteRange(0)]),
            lambda: store.get_ranges(key, []),
            lambda: store.stat(key),
            lambda: store.put(key, b"x"),
            lambda: store.put(key, b"x", overwrite=False),
            lambda: store.delete(["fine", key]),
            lambda: store.copy(key, "fine"),
            lambda: store.copy("fine", key),
        ]
        self.seed(store, "fine", b"x")
        for call in calls:
            with pytest.raises(InvalidKey):
                call()
        assert self.peek(store, "fine") == b"x"

    @pytest.mark.parametrize("prefix", ["a", "/", "/a/", "a//", "../", "a/../", "a*/", ".ckptstore-x/", "a\\b/"])
    def test_a_prefix_outside_the_grammar_is_refused_at_once(self, store: Store, prefix: str) -> None:
        for call in (store.list, store.list_prefixes, store.list_uploads):
            with pytest.raises(InvalidKey):
                call(prefix)

    @pytest.mark.parametrize("key", _GOOD_KEYS)
    def test_a_key_inside_the_grammar_is_taken_literally(self, store: Store, key: str) -> None:
        store.put(key, b"first", overwrite=False)
        store.put(key, iter([b"sec", b"ond"]))
        assert self.peek(store, key) == bytes(store.get(key)) == b"second"
        assert [bytes(part) for part in store.get_ranges(key, [ByteRange(-3)])] == [b"ond"]
        assert [info.key for info in store.list()] == [key]
        assert [*store.list_prefixes()] == ([key.partition("/")[0] + "/"] if "/" in key else [])
        assert (store.stat(key).key, store.copy(key, "copied").size_bytes) == (key, 6)
        store.delete([key])
        assert [info.key for info in store.list()] == ["copied"]

    def test_path_says_where_an_object_lies_or_would_lie(self, store: Store) -> None:
        for key in ("k", "folder/absent 100%"):
            path = store.path(key)
            assert path.name == key.rpartition("/")[2]
            assert isinstance(path, Path) == (store.capabilities.transfer == "posix")
            assert not getattr(path, "storage_options", None)

    def test_capabilities_are_plain_statements(self, store: Store) -> None:
        said = store.capabilities
        assert isinstance(said, Capabilities)
        assert {type(said.atomic_create), type(said.durable), type(said.server_side_copy)} == {bool}
        assert said.transfer
        assert all(isinstance(limit, str) and limit for limit in said.limits)

    def test_it_can_copy_to_itself_where_it_says_that_bytes_stay_on_the_server(self, store: Store) -> None:
        assert store.can_copy_to(store) == store.capabilities.server_side_copy

    def test_the_url_opens_the_same_place(self, store: Store) -> None:
        assert "://" in store.url
        store.put("folder/k", b"x")
        with self.opener(store)() as again:
            assert (again.url, again.place) == (store.url, store.place)
            assert bytes(again.get("folder/k")) == b"x"

    def test_nothing_it_says_holds_a_secret(self, store: Store) -> None:
        with pytest.raises(KeyNotFound) as raised:
            store.get("absent")
        said = [repr(store), str(store), store.url, store.place, str(store.path("k")), repr(store.path("k"))]
        said += [repr(store.capabilities), str(raised.value), repr(raised.value)]
        assert not [text for text in said for secret in self.secrets(store) if secret in text]

    def test_close_may_be_called_twice(self, store: Store) -> None:
        with store as entered:
            assert entered is store
            store.put("k", b"x")
        store.close()
        store.close()
        assert self.peek(store, "k") == b"x"
