"""Ranges, views of buffers, key grammar and redaction, by themselves."""

from __future__ import annotations

import array
import gc
import mmap
import pickle
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptstore.errors import InvalidKey
from ckptstore.objects import (
    MAX_KEY_BYTES,
    MAX_SEGMENT_BYTES,
    ByteRange,
    ObjectInfo,
    as_bytes_view,
    check_key,
    check_prefix,
    redact,
)


@given(st.integers(-50, 50), st.none() | st.integers(0, 50), st.binary(max_size=40))
def test_a_range_is_what_the_slice_is(start, length, data):
    if start < 0:
        length = None
    first, last = ByteRange(start, length).within(len(data))
    assert 0 <= first <= last <= len(data)
    assert data[first:last] == (data[start:] if length is None else data[start : start + length])


@pytest.mark.parametrize(("start", "length"), [(-5, 3), (-5, 0), (0, -1), (3, -3)])
def test_a_contradictory_range_is_refused(start, length):
    with pytest.raises(ValueError, match="suffix"):
        ByteRange(start, length)


@pytest.mark.parametrize(
    "data",
    [
        b"abcd",
        bytearray(b"abcd"),
        memoryview(b"xabcdx")[1:5],
        array.array("H", [25185, 25699]),
        np.array([[1, 2], [3, 4]], np.int16),
        np.array([1 + 2j]),
        np.array([1, 2], ">u4"),
        np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
        np.array(5.0),
        np.float32(1),
        np.empty((2, 0, 3)),
        mmap.mmap(-1, 8),
    ],
)
def test_a_view_shows_the_bytes_of_any_contiguous_buffer(data):
    view = as_bytes_view(data)
    assert (view.format, view.ndim, view.itemsize) == ("B", 1, 1)
    assert bytes(view) == memoryview(data).tobytes()


def test_a_view_is_no_copy():
    data = np.zeros(4, np.uint16)
    view = as_bytes_view(data)
    data[0] = 0x0101
    assert bytes(view[:2]) == b"\x01\x01"
    assert as_bytes_view(b"abc").readonly


def test_views_in_reference_cycles_are_collected_without_harm():
    for data in (b"abc", np.arange(3), np.array([1j]), np.array([1j]).data, memoryview(b"abc")[1:]):
        cycle: list[object] = [[as_bytes_view(data)] for _ in range(100)]
        cycle.append(cycle)
        del cycle
        gc.collect()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (memoryview(b"abcd")[::2], "not contiguous"),
        (np.arange(6).reshape(2, 3).T, "not contiguous"),
        (np.asfortranarray(np.eye(3)), "not contiguous"),
        (np.array([object()]), "Python objects"),
        ("text", "bytes-like"),
        (7, "bytes-like"),
        ([b"a"], "bytes-like"),
    ],
)
def test_anything_else_has_no_view(data, said):
    with pytest.raises(TypeError, match=said):
        as_bytes_view(data)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("", "empty segment"),
        ("a//b", "empty segment"),
        ("/a", "empty segment"),
        ("a/", "empty segment"),
        ("a/../b", "'..'"),
        ("./a", "'.'"),
        ("a/.ckptstore-x", "reserved"),
        ("a*", r"\*"),
        ("a\\b", "holds"),
        ("a\x00", "holds"),
        ("a\x85", "holds"),
        ("\ud800", "unicode"),
        ("x" * 201, "201 bytes"),
        ("é" * 101, "202 bytes"),
        ("/".join("x" * 100 for _ in range(9)), "900"),
        (b"a", "not bytes"),
        (None, "not NoneType"),
        (7, "not int"),
    ],
)
def test_a_bad_key_is_refused_by_what_is_wrong_with_it(key, said):
    with pytest.raises(InvalidKey, match=said):
        check_key(key)


@pytest.mark.parametrize("key", ["a", "a/b", "x" * 200, "é" * 100, ".ckptstore", "...", " ", "a b/%2F#+=&"])
def test_a_good_key_is_returned_as_it_is(key):
    assert check_key(key) == key
    assert check_prefix(key + "/") == key + "/"


@given(st.text(max_size=300))
def test_a_key_is_refused_or_keeps_every_promise(key):
    try:
        check_key(key)
    except InvalidKey:
        return
    segments = key.split("/")
    assert all(0 < len(segment.encode()) <= MAX_SEGMENT_BYTES for segment in segments)
    assert not {".", ".."} & set(segments)
    assert not set("*?[]\\\x00\n\r\t\x7f\x85") & set(key)
    assert len(key.encode()) <= MAX_KEY_BYTES


@pytest.mark.parametrize("prefix", ["a", "/", "a//", "../", None, 7, b"a/"])
def test_a_bad_prefix_is_refused(prefix):
    with pytest.raises(InvalidKey):
        check_prefix(prefix)


def test_the_empty_prefix_is_everything():
    assert check_prefix("") == ""


def test_object_info_can_be_pickled():
    info = ObjectInfo("k", 1, datetime(2026, 1, 2, tzinfo=UTC), "v", {"sha256": "ab"})
    assert pickle.loads(pickle.dumps(info)) == info


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/prefix", "s3://bucket/prefix"),
        ("s3://name:SECRET@bucket/prefix", "s3://bucket/prefix"),
        ("s3://SECRET@bucket/prefix", "s3://bucket/prefix"),
        ("s3://AKIA:SEC/RET+x=@bucket/prefix", "s3://bucket/prefix"),
        ("s3://name:SEC@RET@bucket/prefix", "s3://bucket/prefix"),
        ("s3://bucket/prefix?token=SECRET", "s3://bucket/prefix"),
        ("s3://bucket/prefix#SECRET", "s3://bucket/prefix"),
        ("s3:/name:SECRET@bucket", "s3:/bucket"),
        ("s3:name:SECRET@bucket", "s3:bucket"),
        ("cache::s3://name:SECRET@bucket/x", "cache::s3://bucket/x"),
        ("https://name:SECRET@host:9000/a@b", "https://host:9000/a@b"),
        ("http://host:9000/a@b", "http://host:9000/a@b"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("http://[::1:SECRET@x", "http://x"),
        ("file:///a%20b", "file:///a%20b"),
        ("/plain/a?b#c@d:e", "/plain/a?b#c@d:e"),
        ("relative/path", "relative/path"),
        ("", ""),
    ],
)
def test_redaction_keeps_the_place_and_drops_what_may_be_secret(url, shown):
    assert redact(url) == shown


@given(st.text(alphabet="AZaz09+/=-_", min_size=8, max_size=40).filter(lambda s: not s[0].isdigit()))
def test_no_access_key_gets_through_redaction(secret):
    assert redact(f"s3://AKIAEXAMPLE:{secret}@bucket/prefix?key={secret}") == "s3://bucket/prefix"
