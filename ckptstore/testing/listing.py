"""Listing: every object once, in the order of the UTF-8 bytes of its whole key, as of now."""

from __future__ import annotations

from ckptstore.store import Store
from ckptstore.testing.medium import Medium
from ckptstore.testing.processes import in_processes, write_each

__all__ = ["ListingTests"]

# UTF-8 order; "/" stands between "." and "0", and the last two swap places in UTF-16.
_IN_ORDER = [
    "a b",
    "a!b",
    "a+b",
    "a-b",
    "a.b",
    "a/b",
    "a/c/d",
    "a/c0",
    "a0b",
    "aB",
    "a_b",
    "ab",
    "aé",
    "a\uff5e",
    "a😀",
]


class ListingTests(Medium):
    """What `list` and `list_prefixes` promise."""

    def test_an_empty_store_lists_nothing(self, store: Store) -> None:
        assert list(store.list()) == []
        assert list(store.list("absent/folder/")) == []
        assert list(store.list_prefixes()) == []
        assert list(store.list_prefixes("absent/folder/")) == []
        assert list(store.list_uploads()) == []
        assert list(store.list_uploads("absent/folder/")) == []

    def test_keys_are_ordered_by_their_utf8_bytes(self, store: Store) -> None:
        assert sorted(_IN_ORDER, key=str.encode) == _IN_ORDER
        for key in reversed(_IN_ORDER):
            self.seed(store, key, b"x")
        assert [info.key for info in store.list()] == _IN_ORDER

    def test_folders_are_ordered_by_their_utf8_bytes(self, store: Store) -> None:
        for key in reversed(_IN_ORDER):
            self.seed(store, f"{key}/object", b"x")
        folders = sorted({key.partition("/")[0] + "/" for key in _IN_ORDER}, key=str.encode)
        assert list(store.list_prefixes()) == folders

    def test_a_prefix_is_a_folder_not_the_start_of_a_name(self, store: Store) -> None:
        for key in ("a/b", "a/bc/d", "ab/c", "a.b", "a-/x", "b/a/x"):
            self.seed(store, key, b"x")
        assert [info.key for info in store.list("a/")] == ["a/b", "a/bc/d"]
        assert [info.key for info in store.list("a/b/")] == []
        assert list(store.list_prefixes("a/")) == ["a/bc/"]
        assert list(store.list_prefixes("a/b/")) == []

    def test_prefixes_are_of_one_level(self, store: Store) -> None:
        for key in ("top", "x/one", "x/two", "x/deep/er/still", "y/deep/er", "z/z"):
            self.seed(store, key, b"x")
        assert list(store.list_prefixes()) == ["x/", "y/", "z/"]
        assert list(store.list_prefixes("x/")) == ["x/deep/"]
        assert list(store.list_prefixes("x/deep/")) == ["x/deep/er/"]
        assert list(store.list_prefixes("x/deep/er/")) == []

    def test_a_folder_ends_with_its_last_object(self, store: Store) -> None:
        self.seed(store, "x/deep/er/object", b"x")
        self.seed(store, "y/object", b"x")
        store.delete(["x/deep/er/object"])
        assert list(store.list_prefixes()) == ["y/"]
        assert list(store.list_prefixes("x/")) == []
        store.put("x", b"a key now that it is no folder")
        assert [info.key for info in store.list()] == ["x", "y/object"]

    def test_2500_keys_are_listed_in_order_and_deleted_in_one_call(self, store: Store) -> None:
        keys = [f"many/{i:04d}" for i in range(2500)]
        self.seed_many(store, dict.fromkeys(reversed(keys), b"xy"))
        self.seed(store, "other", b"z")
        listed = list(store.list("many/"))
        assert [info.key for info in listed] == keys
        assert {info.size_bytes for info in listed} == {2}
        assert list(store.list_prefixes()) == ["many/"]
        store.delete(keys)
        assert [info.key for info in store.list()] == ["other"]

    def test_a_listing_shows_what_this_process_just_did(self, store: Store) -> None:
        for i in range(3):
            store.put(f"a/{i}", b"x")
            assert [info.key for info in store.list("a/")] == [f"a/{j}" for j in range(i + 1)]
        store.delete(["a/1"])
        assert [info.key for info in store.list("a/")] == ["a/0", "a/2"]

    def test_a_listing_shows_what_another_process_wrote(self, store: Store) -> None:
        store.put("a/mine", b"old")
        before = next(iter(store.list()))
        assert list(store.list_prefixes()) == ["a/"]
        wrote = {"a/mine": b"replaced", "a/theirs": b"x", "b/theirs": b"y"}
        assert in_processes("fresh", write_each, [(self.opener(store), wrote)]) == [3]
        assert {info.key: info.size_bytes for info in store.list()} == {"a/mine": 8, "a/theirs": 1, "b/theirs": 1}
        assert list(store.list_prefixes()) == ["a/", "b/"]
        assert store.stat("a/mine").version != before.version
        assert bytes(store.get("a/mine")) == b"replaced"
