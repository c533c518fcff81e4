"""Reading: whole objects, ranges of them, and never two versions in one answer."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from ckptstore.errors import KeyNotFound, ObjectChanged, UnsupportedOperation
from ckptstore.objects import ByteRange
from ckptstore.store import Store
from ckptstore.testing.medium import Medium

__all__ = ["ReadingTests"]

_DATA = bytes(range(256)) * 4
_SIZE = len(_DATA)
_MIB = 1024 * 1024

_RANGES = {
    "the beginning": (ByteRange(0, 10), _DATA[:10]),
    "the middle": (ByteRange(100, 300), _DATA[100:400]),
    "all of it": (ByteRange(0), _DATA),
    "from an offset on": (ByteRange(1000), _DATA[1000:]),
    "the last byte": (ByteRange(_SIZE - 1, 1), _DATA[-1:]),
    "across the end": (ByteRange(_SIZE - 3, 10), _DATA[-3:]),
    "at the end": (ByteRange(_SIZE, 10), b""),
    "from the end on": (ByteRange(_SIZE), b""),
    "past the end": (ByteRange(_SIZE + 1000, 10), b""),
    "nothing": (ByteRange(5, 0), b""),
    "a suffix": (ByteRange(-4), _DATA[-4:]),
    "a suffix of all": (ByteRange(-_SIZE), _DATA),
    "a suffix longer than the object": (ByteRange(-_SIZE - 100), _DATA),
}


class ReadingTests(Medium):
    """What `get`, `get_ranges`, `get_ranges_into`, `mapped` and `stat` promise."""

    def test_get_returns_what_is_stored(self, store: Store) -> None:
        self.seed(store, "folder/object", _DATA)
        assert bytes(store.get("folder/object")) == _DATA

    def test_get_returns_memory_that_nobody_else_holds(self, store: Store) -> None:
        self.seed(store, "k", b"abc")
        view = store.get("k")
        if not view.readonly:
            view[0] = 0
        assert self.peek(store, "k") == bytes(store.get("k")) == b"abc"

    def test_an_absent_object_is_not_found(self, store: Store) -> None:
        for read in (
            lambda: store.get("absent/key"),
            lambda: store.stat("absent/key"),
            lambda: list(store.get_ranges("absent/key", [ByteRange(0, 1)])),
            lambda: list(store.get_ranges("absent/key", [ByteRange(-5)])),
            lambda: list(store.get_ranges("absent/key", [ByteRange(0, 0)])),
            lambda: store.copy("absent/key", "other"),
        ):
            with pytest.raises(KeyNotFound, match="absent/key"):
                read()

    def test_a_folder_of_an_object_is_no_object(self, store: Store) -> None:
        self.seed(store, "folder/object", b"x")
        for key in ("folder", "folder/object/below"):
            with pytest.raises(KeyNotFound):
                store.get(key)
            with pytest.raises(KeyNotFound):
                store.stat(key)
            with pytest.raises(KeyNotFound):
                list(store.get_ranges(key, [ByteRange(0)]))

    @pytest.mark.parametrize("name", _RANGES)
    def test_a_range_is_clipped_to_the_object(self, store: Store, name: str) -> None:
        self.seed(store, "k", _DATA)
        wanted, expected = _RANGES[name]
        assert [bytes(part) for part in store.get_ranges("k", [wanted])] == [expected]

    def test_ranges_come_in_the_order_asked(self, store: Store) -> None:
        self.seed(store, "k", _DATA)
        ranges, expected = zip(*itertools.chain(reversed(_RANGES.values()), _RANGES.values()), strict=True)
        assert [bytes(part) for part in store.get_ranges("k", ranges)] == list(expected)

    def test_five_hundred_small_ranges_are_all_right(self, store: Store) -> None:
        self.seed(store, "k", _DATA * 1000)
        starts = [(7919 * i) % (_SIZE * 1000 - 9) for i in range(500)]
        parts = store.get_ranges("k", [ByteRange(start, 9) for start in starts])
        assert [bytes(part) for part in parts] == [(_DATA * 2)[s % _SIZE : s % _SIZE + 9] for s in starts]

    def test_an_empty_object_has_empty_ranges(self, store: Store) -> None:
        self.seed(store, "empty", b"")
        assert bytes(store.get("empty")) == b""
        assert store.stat("empty").size_bytes == 0
        ranges = [ByteRange(0), ByteRange(0, 10), ByteRange(-5), ByteRange(3, 0), ByteRange(7)]
        assert [bytes(part) for part in store.get_ranges("empty", ranges)] == [b""] * 5

    def test_no_ranges_ask_for_nothing(self, store: Store) -> None:
        assert list(store.get_ranges("absent", [])) == []

    def test_ranges_may_be_any_iterable_and_be_left_half_read(self, store: Store) -> None:
        self.seed(store, "k", _DATA)
        parts = store.get_ranges("k", (ByteRange(start, 1) for start in range(100)))
        assert next(parts) == _DATA[:1]
        getattr(parts, "close", lambda: None)()
        assert bytes(store.get("k")) == _DATA

    def test_a_pinned_version_is_that_version_or_an_error(self, store: Store) -> None:
        old = store.put("k", b"one")
        assert [bytes(part) for part in store.get_ranges("k", [ByteRange(0)], version=old.version)] == [b"one"]
        store.put("k", b"two")
        with pytest.raises(ObjectChanged, match="k"):
            list(store.get_ranges("k", [ByteRange(0)], version=old.version))

    def test_a_replaced_object_is_never_read_as_a_mix(self, store: Store) -> None:
        self.seed(store, "k", b"a" * (24 * _MIB))
        parts = store.get_ranges("k", [ByteRange(start * _MIB, _MIB) for start in range(24)])
        read = bytes(next(parts))
        store.put("k", b"b" * (24 * _MIB))
        try:
            read += b"".join(parts)
        except ObjectChanged:
            return
        assert read == b"a" * (24 * _MIB)

    def test_ranges_are_read_into_memory_that_is_there(self, store: Store) -> None:
        self.seed(store, "k", _DATA)
        ranges, expected = zip(*_RANGES.values(), strict=True)
        rooms = [memoryview(bytearray(b"." * (_SIZE + 1))) for _ in ranges]
        filled = list(store.get_ranges_into("k", ranges, iter(rooms)))
        assert [bytes(part) for part in filled] == list(expected)
        assert [bytes(room) for room in rooms] == [part + b"." * (_SIZE + 1 - len(part)) for part in expected]
        assert list(store.get_ranges_into("absent", [], [])) == []

    def test_memory_that_is_too_small_or_of_another_version_is_refused(self, store: Store) -> None:
        old = store.put("k", b"one")
        room = memoryview(bytearray(2))
        with pytest.raises(ValueError, match="3 bytes do not fit into memory of 2"):
            list(store.get_ranges_into("k", [ByteRange(0)], [room]))
        store.put("k", b"other")
        with pytest.raises(ObjectChanged, match="k"):
            list(store.get_ranges_into("k", [ByteRange(0, 2)], [room], version=old.version))
        with pytest.raises(KeyNotFound, match="absent"):
            list(store.get_ranges_into("absent", [ByteRange(0)], [room]))

    def test_a_file_can_be_mapped_and_nothing_else(self, store: Store) -> None:
        old = store.put("k", _DATA)
        if not isinstance(store.path("k"), Path):
            with pytest.raises(UnsupportedOperation, match=r"'k' .* is no file"):
                store.mapped("k")
            return
        whole = store.mapped("k", version=old.version)
        whole[0:1] = b"x"
        store.put("k", b"other")
        assert whole == b"x" + _DATA[1:]
        assert store.put("empty", b"").size_bytes == len(store.mapped("empty")) == 0
        with pytest.raises(ObjectChanged, match="k"):
            store.mapped("k", version=old.version)
        with pytest.raises(KeyNotFound, match="absent"):
            store.mapped("absent")

    def test_stat_tells_size_time_and_version(self, store: Store) -> None:
        put = store.put("k", _DATA)
        for info in (put, store.stat("k"), next(iter(store.list()))):
            assert (info.key, info.size_bytes, info.version) == ("k", _SIZE, put.version)
            assert info.modified.tzinfo is not None
            assert abs(info.modified.timestamp() - time.time()) < 24 * 3600
            assert isinstance(dict(info.checksums), dict)

    def test_every_replacement_is_another_version(self, store: Store) -> None:
        versions = [store.put("k", bytes([i]) * 100).version for i in range(20)]
        assert len(set(versions)) == 20
