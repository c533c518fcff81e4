"""Writing: an object appears whole or not at all, from any buffer or iterable of them."""

from __future__ import annotations

import array
import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from ckptstore.errors import KeyNotFound
from ckptstore.store import Store, open_store
from ckptstore.testing.medium import Medium

__all__ = ["WritingTests"]

_MIB = 1024 * 1024
_NUMBERS = np.arange(24, dtype=np.float32).reshape(4, 6)

_BUFFERS: dict[str, tuple[object, bytes]] = {
    "bytes": (b"abc", b"abc"),
    "bytearray": (bytearray(b"abc"), b"abc"),
    "memoryview": (memoryview(b"xabcx")[1:4], b"abc"),
    "memoryview of ints": (memoryview(array.array("i", [1, -2])), array.array("i", [1, -2]).tobytes()),
    "array": (array.array("d", [0.5]), array.array("d", [0.5]).tobytes()),
    "numpy": (_NUMBERS, _NUMBERS.tobytes()),
    "numpy complex": (_NUMBERS.astype(np.complex64), _NUMBERS.astype(np.complex64).tobytes()),
    "numpy big-endian": (_NUMBERS.astype(">f4"), _NUMBERS.astype(">f4").tobytes()),
    "numpy without elements": (np.empty((3, 0)), b""),
    "empty": (b"", b""),
}
_ITERABLES: dict[str, tuple[Callable[[], object], bytes]] = {
    "list": (lambda: [b"ab", b"c"], b"abc"),
    "generator": (lambda: (bytes([i]) for i in range(256)), bytes(range(256))),
    "mixed": (lambda: [b"ab", bytearray(b"cd"), memoryview(b"ef"), np.frombuffer(b"gh", "<i2")], b"abcdefgh"),
    "nothing": (lambda: iter(()), b""),
    "empty buffers only": (lambda: [b"", bytearray()], b""),
    "empty buffers between": (lambda: [b"", b"ab", b"", b"c", b""], b"abc"),
}
_WRONG: dict[str, Callable[[], object]] = {
    "str": lambda: "text",
    "int": lambda: 7,
    "None": lambda: None,
    "list of str": lambda: [b"ab", "text"],
    "list of int": lambda: [1, 2],
    "strided memoryview": lambda: memoryview(b"abcdef")[::2],
    "strided array": lambda: np.arange(10)[::2],
    "transposed array": lambda: _NUMBERS.T,
    "array of objects": lambda: np.array([object()]),
    "list with a strided array": lambda: [b"ab", np.arange(10)[::2]],
}
_BEFORE_FAILING: dict[str, list[bytes]] = {
    "nothing": [],
    "a little": [b"x" * 1024],
    "two parts": [b"x" * (6 * _MIB), b"y" * (6 * _MIB)],
}


class _Failure(BaseException):
    """Not an Exception, as KeyboardInterrupt is none."""


class WritingTests(Medium):
    """What `put`, `copy`, `delete` and `list_uploads` promise."""

    @pytest.mark.parametrize("name", _BUFFERS)
    def test_any_contiguous_buffer_is_stored(self, store: Store, name: str) -> None:
        data, expected = _BUFFERS[name]
        info = store.put("folder/k", data)  # type: ignore[arg-type]  # numpy arrays are buffers before 3.12 types say so
        assert (info.key, info.size_bytes) == ("folder/k", len(expected))
        assert self.peek(store, "folder/k") == bytes(store.get("folder/k")) == expected

    @pytest.mark.parametrize("name", _ITERABLES)
    def test_any_iterable_of_buffers_is_stored(self, store: Store, name: str) -> None:
        made, expected = _ITERABLES[name]
        info = store.put("k", made())  # type: ignore[arg-type]  # as above
        assert info.size_bytes == len(expected)
        assert self.peek(store, "k") == bytes(store.get("k")) == expected

    @pytest.mark.parametrize("name", _WRONG)
    def test_anything_else_is_a_type_error_and_leaves_nothing(self, store: Store, name: str) -> None:
        with pytest.raises(TypeError):
            store.put("k", _WRONG[name]())  # type: ignore[arg-type]  # that is the test
        assert self.peek(store, "k") is None
        assert list(store.list_uploads()) == []

    def test_an_object_of_many_large_parts_is_stored(self, store: Store) -> None:
        parts = [np.random.default_rng(i).bytes(6 * _MIB) for i in range(3)]
        info = store.put("large", iter(parts))
        assert info.size_bytes == store.stat("large").size_bytes == 18 * _MIB
        assert info.version == store.stat("large").version
        assert bytes(store.get("large")) == b"".join(parts)
        assert list(store.list_uploads()) == []

    def test_parts_of_odd_sizes_are_joined_without_a_seam(self, store: Store) -> None:
        whole = np.random.default_rng(0).bytes(13 * _MIB)
        cuts = [0, 1, 5 * _MIB - 1, 5 * _MIB + 2, 5 * _MIB + 2, 11 * _MIB, len(whole)]
        store.put("k", (memoryview(whole)[a:b] for a, b in itertools.pairwise(cuts)))
        assert bytes(store.get("k")) == whole

    def test_a_large_buffer_is_stored(self, store: Store) -> None:
        data = np.random.default_rng(7).bytes(20 * _MIB)
        assert store.put("k", data).size_bytes == len(data)
        assert bytes(store.get("k")) == data

    def test_memory_changed_after_put_does_not_change_the_object(self, store: Store) -> None:
        data = bytearray(b"abc")
        store.put("whole", data)
        store.put("parts", [data, data])
        data[:] = b"xyz"
        assert (bytes(store.get("whole")), bytes(store.get("parts"))) == (b"abc", b"abcabc")

    def test_put_replaces_by_default(self, store: Store) -> None:
        self.seed(store, "k", b"a longer old object")
        store.put("k", b"new")
        assert self.peek(store, "k") == b"new"

    @pytest.mark.parametrize("error", [ValueError("mine"), PermissionError("mine"), KeyboardInterrupt(), _Failure()])
    @pytest.mark.parametrize("name", _BEFORE_FAILING)
    def test_an_iterable_that_raises_publishes_nothing(self, store: Store, name: str, error: BaseException) -> None:
        with pytest.raises(type(error)) as raised:
            store.put("fresh/k", _failing(_BEFORE_FAILING[name], error))
        assert raised.value is error
        assert self.peek(store, "fresh/k") is None
        assert list(store.list()) == []
        assert list(store.list_uploads()) == []

    @pytest.mark.parametrize("name", _BEFORE_FAILING)
    def test_an_iterable_that_raises_leaves_the_old_object(self, store: Store, name: str) -> None:
        self.seed(store, "k", b"old")
        with pytest.raises(ZeroDivisionError):
            store.put("k", _failing(_BEFORE_FAILING[name], ZeroDivisionError()))
        assert self.peek(store, "k") == b"old"
        assert list(store.list_uploads()) == []

    def test_a_put_after_a_failed_one_works(self, store: Store) -> None:
        with pytest.raises(ZeroDivisionError):
            store.put("k", _failing([b"x" * (6 * _MIB)] * 2, ZeroDivisionError()))
        store.put("k", b"new")
        assert self.peek(store, "k") == b"new"

    def test_delete_removes_many_and_ignores_the_absent(self, store: Store) -> None:
        for key in ("a/one", "a/two", "b/three"):
            self.seed(store, key, b"x")
        store.delete(key for key in ("a/one", "absent", "a/absent", "b/three", "a/one"))
        assert [info.key for info in store.list()] == ["a/two"]
        store.delete([])
        store.delete(["a/one"])
        assert self.peek(store, "a/two") == b"x"

    def test_delete_of_a_folder_removes_nothing(self, store: Store) -> None:
        self.seed(store, "a/one", b"x")
        store.delete(["a", "a/one/below"])
        assert self.peek(store, "a/one") == b"x"

    @pytest.mark.parametrize("size", [0, 10, 17 * _MIB])
    def test_copy_within_the_store(self, store: Store, size: int) -> None:
        data = np.random.default_rng(3).bytes(size)
        self.seed(store, "a/source", data)
        self.seed(store, "b/target", b"what was there before")
        assert store.copy("a/source", "b/target").size_bytes == size
        assert store.copy("a/source", "new/folder/target").key == "new/folder/target"
        for key in ("a/source", "b/target", "new/folder/target"):
            assert self.peek(store, key) == data

    @pytest.mark.parametrize("size", [0, 17 * _MIB])
    def test_copy_to_another_store_and_back(self, store: Store, size: int) -> None:
        data = np.random.default_rng(4).bytes(size)
        self.seed(store, "source", data)
        with open_store(f"memory://other-{id(store)}") as other:
            assert store.copy("source", "x/there", target=other).size_bytes == size
            assert bytes(other.get("x/there")) == data
            other.copy("x/there", "x/back", target=store)
            other.delete(["x/there"])
        assert self.peek(store, "x/back") == data

    def test_copy_onto_itself_keeps_the_object(self, store: Store) -> None:
        self.seed(store, "k", b"abc")
        assert store.copy("k", "k").size_bytes == 3
        assert self.peek(store, "k") == b"abc"

    def test_copy_of_an_absent_object_leaves_the_target(self, store: Store) -> None:
        self.seed(store, "target", b"old")
        with pytest.raises(KeyNotFound):
            store.copy("absent", "target")
        with open_store(f"memory://other-{id(store)}") as other, pytest.raises(KeyNotFound):
            store.copy("absent", "target", target=other)
        assert self.peek(store, "target") == b"old"


def _failing(parts: list[bytes], error: BaseException) -> Iterator[bytes]:
    yield from parts
    raise error
