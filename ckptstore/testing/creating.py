"""Atomic creates: of racing writers exactly one wins, and the object is the winner's."""

from __future__ import annotations

import itertools
import mmap
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from ckptstore.errors import KeyExists
from ckptstore.objects import MAX_CREATE_BYTES
from ckptstore.store import Store
from ckptstore.testing.medium import Medium
from ckptstore.testing.processes import create_each, in_processes

__all__ = ["CreatingTests"]

_MIB = 1024 * 1024
_RACERS = 8


class CreatingTests(Medium):
    """What ``put(overwrite=False)`` promises."""

    def test_a_create_of_a_new_key_stores_it(self, store: Store) -> None:
        info = store.put("a/k", b"first", overwrite=False)
        assert (info.key, info.size_bytes, info.version) == ("a/k", 5, store.stat("a/k").version)
        assert self.peek(store, "a/k") == b"first"

    @pytest.mark.parametrize("old", [b"old", b""])
    def test_a_create_of_an_existing_key_is_refused(self, store: Store, old: bytes) -> None:
        self.seed(store, "k", old)
        with pytest.raises(KeyExists, match="k"):
            store.put("k", b"new", overwrite=False)
        assert self.peek(store, "k") == old
        assert list(store.list_uploads()) == []

    def test_a_key_can_be_created_again_after_its_deletion(self, store: Store) -> None:
        store.put("a/k", b"first", overwrite=False)
        store.delete(["a/k"])
        store.put("a/k", b"again", overwrite=False)
        assert self.peek(store, "a/k") == b"again"

    def test_an_empty_object_can_be_created_once(self, store: Store) -> None:
        store.put("k", b"", overwrite=False)
        with pytest.raises(KeyExists):
            store.put("k", b"", overwrite=False)
        assert self.peek(store, "k") == b""

    def test_an_iterable_is_gathered(self, store: Store) -> None:
        store.put("k", (bytes([i]) for i in range(10)), overwrite=False)
        assert self.peek(store, "k") == bytes(range(10))

    def test_an_iterable_that_raises_creates_nothing(self, store: Store) -> None:
        with pytest.raises(ZeroDivisionError):
            store.put("k", (bytes(1 // i) for i in (1, 0)), overwrite=False)
        assert self.peek(store, "k") is None
        assert list(store.list_uploads()) == []

    def test_more_than_the_limit_cannot_be_created(self, store: Store) -> None:
        pulled = itertools.count()
        with pytest.raises(ValueError, match="64 MiB"):
            store.put("k", _endless(pulled, b"x" * _MIB), overwrite=False)
        assert next(pulled) <= MAX_CREATE_BYTES // _MIB + 2
        with pytest.raises(ValueError, match="64 MiB"):
            store.put("k", memoryview(mmap.mmap(-1, MAX_CREATE_BYTES + 1)), overwrite=False)
        assert self.peek(store, "k") is None

    def test_one_of_racing_threads_wins(self, store: Store) -> None:
        start = Barrier(_RACERS)

        def create(racer: int, key: str) -> int | None:
            start.wait()
            try:
                store.put(key, bytes([racer]) * 1000, overwrite=False)
            except KeyExists:
                return None
            return racer

        with ThreadPoolExecutor(_RACERS) as pool:
            for key in ("race/one", "race/two", "race/three", "other/four"):
                winners = [w for w in pool.map(create, range(_RACERS), [key] * _RACERS) if w is not None]
                assert len(winners) == 1
                assert self.peek(store, key) == bytes(winners) * 1000
        assert list(store.list_uploads()) == []

    def test_one_of_racing_processes_wins(self, store: Store) -> None:
        keys = [f"race/{i}" for i in range(20)]
        racers = [bytes([i]) * 1000 for i in range(3)]
        won = in_processes("fresh", create_each, [(self.opener(store), keys, data) for data in racers])
        assert Counter(itertools.chain.from_iterable(won)) == Counter(keys)
        for data, mine in zip(racers, won, strict=True):
            assert all(self.peek(store, key) == data for key in mine)


def _endless(pulled: Iterator[int], chunk: bytes) -> Iterator[bytes]:
    for _ in pulled:
        yield chunk
