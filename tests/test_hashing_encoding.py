from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptstore.hashing import SCHEME_VERSION, combine
from ckptstore.hashing.encoding import digest, encode, remembered_digest

GOLDEN: dict[str, tuple[object, bytes]] = {
    "none": (None, b"N"),
    "false": (False, b"F"),
    "true": (True, b"T"),
    "zero": (0, b"i1:\x00"),
    "127": (127, b"i1:\x7f"),
    "128": (128, b"i2:\x00\x80"),
    "minus 128": (-128, b"i1:\x80"),
    "minus 129": (-129, b"i2:\xff\x7f"),
    "float": (1.0, b"f\x3f\xf0\x00\x00\x00\x00\x00\x00"),
    "minus zero": (-0.0, b"f\x80\x00\x00\x00\x00\x00\x00\x00"),
    "nan": (math.nan, b"f\x7f\xf8\x00\x00\x00\x00\x00\x00"),
    "text": ("é", b"s2:\xc3\xa9"),
    "bytes": (b"\x00", b"b1:\x00"),
    "list": ([1, "1"], b"l2:i1:\x01s1:1"),
    "dict": ({"b": None, "a": []}, b"d2:s1:al0:s1:bN"),
}

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.booleans(), inner),
    max_leaves=8,
)


def typed(value):
    if isinstance(value, dict):
        return "dict", frozenset((typed(key), typed(item)) for key, item in value.items())
    if isinstance(value, list):
        return "list", tuple(map(typed, value))
    return type(value), repr(value)


@pytest.mark.parametrize("name", GOLDEN)
def test_every_kind_of_value_has_the_encoding_of_the_first_release(name):
    value, expected = GOLDEN[name]
    assert encode(value) == expected


def test_a_digest_is_the_sha256_of_the_encoding():
    assert digest([1]) == hashlib.sha256(b"l1:i1:\x01").hexdigest()


@settings(deadline=None)
@given(plain, plain)
def test_two_values_share_an_encoding_only_if_they_are_the_same(one, other):
    assert (encode(one) == encode(other)) == (typed(one) == typed(other))


@settings(deadline=None)
@given(plain)
def test_an_encoding_depends_on_the_value_alone(value):
    assert encode(value) == encode(value if not isinstance(value, dict) else dict(reversed(value.items())))


@pytest.mark.parametrize("value", [object(), 1j, {1, 2}, [print]])
def test_what_is_not_plain_is_refused(value):
    with pytest.raises(TypeError, match="has no canonical encoding"):
        encode(value)


def test_the_experiment_hash_is_that_of_the_first_release():
    assert SCHEME_VERSION == 1
    assert combine(None, None, None) == "7fc298fa1e7e4426"
    assert combine("a" * 64, "b" * 64, "c" * 64) == "5923e6d6e4cedfe4"
    assert combine("a" * 64, None, "c" * 64) == "3d17a9c34723cc5e"


def test_the_place_of_a_digest_counts_and_absent_is_no_digest():
    values = [None, "", "None", "N", "a" * 64]
    triples = [(one, two, three) for one in values for two in values for three in values]
    assert len({combine(*triple) for triple in triples}) == len(triples)


def test_a_remembered_digest_is_that_of_the_very_value():
    parts: list[Any] = [1, 1.0, True, "1", b"1", 0.0, -0.0, math.nan, None, 2**70, [1], {"b": 1}, {1: "b"}]
    values: list[Any] = [{"a": [part]} for part in parts]
    values += [OrderedDict(b=1, a=2), {"a": 2, "b": 1}, ["é" * 5, (1, 2)]]
    for _ in range(2):
        assert [remembered_digest(value) for value in values] == [digest(value) for value in values]
