"""Sharing: threads, processes and forks that use one store, or one object, at the same time."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from ckptstore.errors import ObjectChanged
from ckptstore.objects import ByteRange
from ckptstore.store import Store
from ckptstore.testing.medium import Medium
from ckptstore.testing.processes import in_processes, replace_each, use_everything

__all__ = ["SharingTests"]

_SIZE = 512 * 1024
_REPLACEMENTS = 25


class SharingTests(Medium):
    """What a store promises to those who share it."""

    def test_threads_may_share_one_store(self, store: Store) -> None:
        folders = [f"thread/{i}" for i in range(8)]
        with ThreadPoolExecutor(8) as pool:
            for _ in range(3):
                kept = list(pool.map(use_everything, [store] * 8, folders))
                assert kept == [[f"{folder}/one", f"{folder}/two"] for folder in folders]
                store.delete(key for keys in kept for key in keys)
        assert list(store.list()) == []

    def test_a_store_works_on_both_sides_of_a_fork(self, store: Store) -> None:
        assert use_everything(store, "before") == ["before/one", "before/two"]
        forked = in_processes("fork", use_everything, [(store, "child/a"), (store, "child/b")])
        assert forked == [["child/a/one", "child/a/two"], ["child/b/one", "child/b/two"]]
        assert use_everything(store, "after") == ["after/one", "after/two"]

    def test_a_store_first_used_by_a_thread_works_after_a_fork(self, store: Store) -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(use_everything, store, "thread").result()
            assert in_processes("fork", use_everything, [(store, "child")]) == [["child/one", "child/two"]]
            assert pool.submit(use_everything, store, "again").result() == ["again/one", "again/two"]

    def test_a_reader_sees_the_old_object_or_the_new_one(self, store: Store) -> None:
        self.seed(store, "k", b"a" * _SIZE)
        with ThreadPoolExecutor(3) as pool:
            writing = pool.submit(_replace, store, _REPLACEMENTS)
            seen = [*pool.map(_read_until, [store] * 2, [writing] * 2)]
        writing.result()
        assert set().union(*seen) <= {b"a", b"b"}
        assert list(store.list_uploads()) == []

    def test_racing_replacements_leave_one_of_them_whole(self, store: Store) -> None:
        candidates = [bytes([i]) * _SIZE for i in range(6)]
        with ThreadPoolExecutor(6) as pool:
            assert {info.size_bytes for info in pool.map(store.put, ["race/k"] * 6, candidates)} == {_SIZE}
        assert self.peek(store, "race/k") in candidates
        assert [info.key for info in store.list()] == ["race/k"]
        assert list(store.list_uploads()) == []

    def test_processes_may_replace_one_object_at_once(self, store: Store) -> None:
        candidates = [bytes([i]) * 5000 for i in range(3)]
        calls = [(self.opener(store), "race/k", data, 30) for data in candidates]
        assert in_processes("fresh", replace_each, calls) == [30, 30, 30]
        assert self.peek(store, "race/k") in candidates
        assert list(store.list_uploads()) == []

    def test_puts_and_deletes_in_one_folder_do_not_disturb_each_other(self, store: Store) -> None:
        def come_and_go(name: str) -> None:
            for _ in range(_REPLACEMENTS):
                store.put(f"deep/folder/{name}", b"x")
                assert bytes(store.get(f"deep/folder/{name}")) == b"x"
                store.delete([f"deep/folder/{name}"])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(come_and_go, "abcd"))
        assert list(store.list()) == []
        assert list(store.list_prefixes()) == []


def _replace(store: Store, times: int) -> None:
    for i in range(times):
        letter = b"ba"[i % 2 : i % 2 + 1]
        store.put("k", letter * _SIZE if i % 3 else iter([letter * (_SIZE // 2)] * 2))


def _read_until(store: Store, writing: Future[None]) -> set[bytes]:
    seen = {_letter([store.get("k")])}
    while not writing.done():
        try:
            seen.add(_letter([store.get("k")]))
            seen.add(_letter(store.get_ranges("k", [ByteRange(0, _SIZE // 2), ByteRange(_SIZE // 2)])))
        except ObjectChanged:
            continue
    return seen


def _letter(parts: Iterable[memoryview]) -> bytes:
    whole = b"".join(parts)
    return whole[:1] if whole == whole[:1] * _SIZE else b"a mix"
