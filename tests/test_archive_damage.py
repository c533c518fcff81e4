from __future__ import annotations

import hashlib
import io
import os
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ckptstore.archive import load, plan, read_index
from ckptstore.errors import CorruptCheckpoint, UnsupportedFormat
from ckptstore.store import Store
from ckptstore_backends.memory import MemoryStore
from tests.archives import archived, forged, same, written

STATE: dict[str, Any] = {"a": torch.arange(5, dtype=torch.float32), "b": [1, "two"], "c": torch.zeros(2, 0)}
STATE["view"] = STATE["a"][1:3]
DATA = written(STATE)


@pytest.fixture
def store() -> Store:
    return MemoryStore("archive-damage")


def outcome(store: Store, data: bytes, read: Callable[..., Any] = load) -> Any:
    store.put("a.pt", data)
    try:
        return read(store, "a.pt")
    except CorruptCheckpoint:
        return None


def test_any_flipped_bit_is_noticed_or_harmless(store: Store) -> None:
    noticed = 0
    for position in range(len(DATA) * 8):
        damaged = bytearray(DATA)
        damaged[position // 8] ^= 1 << position % 8
        found = outcome(store, bytes(damaged))
        noticed += found is None
        assert found is None or same(found, STATE)
    assert noticed > len(DATA) * 8 * 0.5


def test_any_flipped_byte_is_noticed_by_the_index_or_harmless(store: Store) -> None:
    expected = read_index_facts(store, DATA)
    for position in range(len(DATA)):
        damaged = bytearray(DATA)
        damaged[position] ^= 0xFF
        found = read_index_facts(store, bytes(damaged))
        assert found is None or found == expected


def read_index_facts(store: Store, data: bytes) -> Any:
    index = outcome(store, data, read_index)
    return index and (index.digest, index.records, index.state)


def test_a_file_cut_at_any_length_is_noticed(store: Store) -> None:
    for length in range(len(DATA)):
        assert outcome(store, DATA[:length]) is None
        assert outcome(store, DATA[:length], read_index) is None


def test_swapped_lost_and_doubled_blocks_are_noticed(store: Store) -> None:
    dice, size = random.Random(0), 64
    for _ in range(300):
        first, second = sorted(dice.sample(range(len(DATA) // size), 2))
        a, b = DATA[first * size : (first + 1) * size], DATA[second * size : (second + 1) * size]
        swapped = (
            DATA[: first * size] + b + DATA[(first + 1) * size : second * size] + a + DATA[(second + 1) * size :]
        )
        lost = DATA[: first * size] + DATA[second * size :]
        doubled = DATA[: second * size] + DATA[first * size :]
        for damaged in (swapped, lost, doubled):
            found = outcome(store, damaged)
            assert found is None or same(found, STATE)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>", "as no checkpoint does"),
        (os.urandom(5000).replace(b"PK", b"KP"), "as no checkpoint does"),
        (b"PK\3\4" + bytes(500), "zip container is truncated"),
        (bytes(10_000), "as no checkpoint does"),
        (pickle.dumps({"a": 1}), "as no checkpoint does"),
    ],
    ids=["empty", "html", "random", "zip header", "zeros", "pickle"],
)
def test_what_was_never_a_checkpoint_is_named_with_the_reason(store: Store, data: bytes, says: str) -> None:
    store.put("x/a.pt", data)
    with pytest.raises(CorruptCheckpoint, match=says) as caught:
        load(store, "x/a.pt")
    assert str(caught.value).startswith("checkpoint 'x/a.pt' in memory://archive-damage cannot be read: ")


def zip_of(compression: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(f"archive/{name.replace('_', '.')}", data)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (zip_of(readme_txt=b"hello"), "without data.pkl"),
        (zip_of(data_pkl=b"", constants_pkl=b""), "TorchScript program"),
        (zip_of(zipfile.ZIP_DEFLATED, data_pkl=bytes(1000)), "compressed zip"),
        (zip_of(data_pkl=pickle.dumps({}, protocol=2)), "torch.load refuses it"),
    ],
    ids=["other zip", "torchscript", "compressed", "no version"],
)
def test_other_zip_files_are_named_with_the_reason(store: Store, data: bytes, says: str) -> None:
    store.put("a.pt", data)
    with pytest.raises(CorruptCheckpoint, match=says):
        load(store, "a.pt")


def test_a_newer_format_asks_for_an_upgrade(store: Store) -> None:
    store.put("a.pt", DATA.replace(b"ckptstore1 ", b"ckptstore2 "))
    with pytest.raises(UnsupportedFormat, match="upgrade ckptstore"):
        load(store, "a.pt")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_cut_file_of_torch_is_noticed(store: Store, zipped: bool) -> None:
    file = io.BytesIO()
    torch.save(STATE, file, _use_new_zipfile_serialization=zipped)
    for length in range(0, len(file.getvalue()), 7):
        assert outcome(store, file.getvalue()[:length]) is None


def test_a_changed_tensor_in_a_file_of_torch_is_noticed(store: Store) -> None:
    file = io.BytesIO()
    torch.save({"a": torch.full((64,), 3, dtype=torch.uint8)}, file)
    store.put("a.pt", file.getvalue().replace(b"\3" * 64, b"\3" * 63 + b"\2"))
    with pytest.raises(CorruptCheckpoint, match="record archive/data/0 does not match its CRC32"):
        load(store, "a.pt")


class Runs:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_code_in_a_file_of_torch_is_never_executed(store: Store, zipped: bool, tmp_path: Path) -> None:
    file = io.BytesIO()
    torch.save({"a": Runs(tmp_path / "ran")}, file, _use_new_zipfile_serialization=zipped)
    store.put("a.pt", file.getvalue())
    with pytest.raises(UnsupportedFormat, match="never executed"):
        load(store, "a.pt")
    assert not (tmp_path / "ran").exists()


def call(name: str, arguments: bytes) -> bytes:
    """Return a pickle of a dict whose value is the result of a call."""
    return b"\x80\x02}(X\1\0\0\0ac" + name.replace(" ", "\n").encode() + b"\n" + arguments + b"Ru."


def tensor(shape: bytes, stride: bytes, offset: bytes = b"K\0", count: bytes = b"K\5", key: bytes = b"0") -> bytes:
    """Return a pickle of one tensor in data/0, which has 20 bytes."""
    storage = b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" + key + b"X\3\0\0\0cpu" + count + b"tQ"
    return call("torch._utils _rebuild_tensor_v2", b"(" + storage + offset + shape + stride + b"\x89Nt")


LONG = b"\x8a\x09" + (2**64).to_bytes(9, "little")


@pytest.mark.parametrize(
    "metadata",
    [
        call("os system", b"(X\4\0\0\0truet"),
        call("posix system", b"(X\4\0\0\0truet"),
        call("builtins eval", b"(X\3\0\0\x001+1t"),
        call("builtins getattr", b"(NX\1\0\0\0at"),
        call("builtins bytearray", b"(" + LONG + b"t"),
        call("torch load", b"(X\1\0\0\0at"),
        call("torch.storage _load_from_bytes", b"(X\1\0\0\0at"),
        call("torch.hub load", b"(X\1\0\0\0at"),
        call("torch.serialization _get_layout", b"(X\1\0\0\0at"),
        call("_codecs encode", b"(X\1\0\0\0aX\3\0\0\0hext"),
        call("_codecs encode", b"(X\1\0\0\0at"),
        call("collections OrderedDict", b"K\1"),
        call("builtins set", b"(]]at"),
        call("builtins complex", b"(X\1\0\0\0xt"),
        call("torch device", b"(X\4\0\0\0moont"),
        call("torch Size", b"(X\1\0\0\0at"),
        tensor(b"K\6\x85", b"K\1\x85"),
        tensor(b"K\5\x85", b"K\1\x85", offset=b"K\1"),
        tensor(b"K\2\x85", b"K\5\x85"),
        tensor(b"K\1\x85", b"K\1\x85", offset=b"J\xff\xff\xff\xff"),
        tensor(b"K\2\x85", b"J\xff\xff\xff\xff\x85", offset=b"K\4"),
        tensor(b"J\xff\xff\xff\xff\x85", b"K\1\x85"),
        tensor(LONG + LONG + b"\x86", b"K\0K\0\x86"),
        tensor(LONG + b"\x85", b"K\0\x85"),
        tensor(b"K\1\x85", b"K\1K\1\x86"),
        tensor(b"K\0\x85", b"K\1\x85", offset=LONG),
        tensor(b"N", b"N"),
        tensor(b"\x88\x85", b"K\1\x85"),
        tensor(b"K\5\x85", b"K\1\x85", count=b"K\6"),
        tensor(b"K\5\x85", b"K\1\x85", count=b"\x8a\x06\0\0\0\0\0\1"),
        tensor(b"K\5\x85", b"K\1\x85", key=b"1"),
        b"\x80\x02}r\xff\xff\xff\xff(X\1\0\0\0aj\xfe\xff\xff\xffu.",
        b"\x80\x02}(X\1\0\0\0actorch._utils\n_rebuild_tensor_v2\n}(X\1\0\0\0aK\1ubu.",
        b"\x80\x02}(X\1\0\0\0accollections\nOrderedDict\n)R}(K\1K\1ubu.",
        b"\x80\x02}(X\1\0\0\0a(X\7\0\0\0moduleK\1K\1K\1K\1tQu.",
        b"\x80\x02X\1\0\0\0aQ.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.",
        b"\x80\x02\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x02\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x02X\xff\xff\xff\xff.",
        b"\x80\x02}(K\1u.",
        b"\x80\x02}(]K\1u.",
        b"\x80\x02" + b"(" * 1000 + b".",
        b"\x80\x02",
        b"\x80\x02.",
        b"\x80\x02t.",
        b"\x80\x02K\1\x86.",
        b"\x80\x02cos",
        b"\x80\x02]]e.",
        b"\x80\x02K\1K\2.",
        b"\x80\x02K\1.",
        b"",
    ],
    ids=lambda metadata: repr(metadata[:60]),
)
def test_a_forged_pickle_runs_nothing_and_takes_no_memory(store: Store, metadata: bytes) -> None:
    store.put("a.pt", forged(metadata, [bytes(20)]))
    for read in (load, read_index):
        with pytest.raises(CorruptCheckpoint, match=r"checkpoint 'a\.pt' in memory://archive-damage cannot be read"):
            read(store, "a.pt")


def test_the_forgeries_differ_from_a_sound_pickle_in_one_thing_only(store: Store) -> None:
    for sound in (
        tensor(b"K\5\x85", b"K\1\x85"),
        tensor(b"K\0\x85", b"K\1\x85"),
        tensor(LONG[:1] + b"\1\3\x85", b"K\0\x85"),
    ):
        store.put("a.pt", forged(sound, [bytes(20)]))
        assert load(store, "a.pt")["a"].sum() == 0


def test_a_deep_pickle_is_read_without_recursion(store: Store) -> None:
    depth = 100_000
    metadata = b"\x80\x02}(X\1\0\0\0a" + b"](" * depth + b"]" + b"e" * depth + b"u."
    store.put("a.pt", forged(metadata))
    found: Any = load(store, "a.pt")["a"]
    for _ in range(depth):
        (found,) = found
    assert found == []


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_forged_directory_is_refused(store: Store, position: int) -> None:
    """Records that overlap, lie elsewhere or have another size, under a digest that fits."""
    start = DATA.index(b"PK\1\2")
    directory = bytearray(DATA[start:-97])
    field = (20, 24, 42)[position]
    struct.pack_into("<I", directory, field, struct.unpack_from("<I", directory, field)[0] + 64)
    ending = DATA[-97:-64] + hashlib.sha256(directory).hexdigest().encode()
    store.put("a.pt", DATA[:start] + bytes(directory) + ending)
    with pytest.raises(CorruptCheckpoint, match="its directory"):
        load(store, "a.pt")


def test_records_of_other_names_or_another_byte_order_are_refused(store: Store) -> None:
    sound = {"byteorder": b"little", "version": b"3\n", "data.pkl": b"\x80\x02}."}
    for records in ({"other": b"", **sound}, {**sound, "byteorder": b"big"}, dict(reversed(sound.items()))):
        store.put("a.pt", archived(records))
        with pytest.raises(CorruptCheckpoint, match=r"its records are not|byteorder is not|does not end with"):
            load(store, "a.pt")
    store.put("a.pt", archived(sound))
    assert load(store, "a.pt") == {}


def test_no_url_secret_reaches_a_message(store: Store) -> None:
    class Secret(MemoryStore):
        @property
        def url(self) -> str:
            return "s3://user:hunter2@bucket/x?token=hunter2"

    secret = Secret("archive-damage")
    secret.put("a.pt", b"nonsense")
    with pytest.raises(CorruptCheckpoint) as caught:
        load(secret, "a.pt")
    assert "hunter2" not in str(caught.value)
    assert plan(STATE).size_bytes == len(DATA)
