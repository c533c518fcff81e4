"""One canonical byte string for each plain value: what every digest of the scheme is taken over.

A value is a tag, and for all but the fixed-size ones a length in decimal and a colon::

    None N   False F   True T   float f + 8 bytes, big-endian IEEE 754
    int i<n>:<two's complement, big-endian, as short as it gets>   str s<n>:<UTF-8>   bytes b<n>:<as they are>
    list l<n>:<the n items>   dict d<n>:<the n pairs, ordered by the encoded key>

So no two different values share an encoding: 1, 1.0, True and "1" differ, and so do 0.0 and -0.0. Every NaN is one
NaN.
"""

from __future__ import annotations

import hashlib
import marshal
import math
import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

_MARSHAL_BY_VALUE = 2  # later versions refer back to objects met before, so the bytes of equal values can differ
_NAN = b"f\x7f\xf8\x00\x00\x00\x00\x00\x00"


def encode(value: object) -> bytes:
    """Return the canonical encoding of None, bool, int, float, str, bytes, lists, tuples and mappings of them.

    A tuple is encoded as a list, and a mapping in the same way whatever the order of its keys.

    Raises:
        TypeError: for a value of any other type.
    """
    encoder = _ENCODERS.get(type(value)) or _encoder_of_subclass(value)
    return encoder(value)


def digest(value: object) -> str:
    """Return the SHA-256 of the canonical encoding, as 64 hex digits."""
    return hashlib.sha256(encode(value)).hexdigest()


def remembered_digest(value: Any) -> str:
    """Return `digest`, remembered for values that come often, such as the descriptions of a model's layers.

    They are told apart by all of their bytes, as marshal writes them, which takes a fraction of the encoding.
    """
    try:
        return _digest_of(marshal.dumps(value, _MARSHAL_BY_VALUE))
    except ValueError:  # a subclass of dict or list
        return digest(value)


@lru_cache(maxsize=4096)
def _digest_of(marshalled: bytes) -> str:
    return digest(marshal.loads(marshalled))  # noqa: S302  # written a moment ago


def _encoder_of_subclass(value: object) -> Callable[[Any], bytes]:
    if isinstance(value, Mapping):
        return _encode_mapping
    if isinstance(value, list | tuple):
        return _encode_list
    raise TypeError(f"{type(value).__name__} has no canonical encoding; reduce it to plain data first")


def _encode_none(value: None) -> bytes:  # noqa: ARG001  # every encoder takes its value
    return b"N"


def _encode_bool(value: bool) -> bytes:  # noqa: FBT001
    return b"T" if value else b"F"


def _encode_int(value: int) -> bytes:
    size = (value + (value < 0)).bit_length() // 8 + 1
    return b"i%d:" % size + value.to_bytes(size, "big", signed=True)


def _encode_float(value: float) -> bytes:
    return _NAN if math.isnan(value) else struct.pack(">cd", b"f", value)


def _encode_str(value: str) -> bytes:
    raw = value.encode("utf-8", "surrogatepass")
    return b"s%d:" % len(raw) + raw


def _encode_bytes(value: bytes) -> bytes:
    return b"b%d:" % len(value) + value


def _encode_list(value: list[Any] | tuple[Any, ...]) -> bytes:
    return b"l%d:" % len(value) + b"".join(map(encode, value))


def _encode_mapping(value: Mapping[Any, Any]) -> bytes:
    pairs = sorted((encode(key), encode(item)) for key, item in value.items())
    return b"d%d:" % len(pairs) + b"".join(key + item for key, item in pairs)


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    type(None): _encode_none,
    bool: _encode_bool,
    int: _encode_int,
    float: _encode_float,
    str: _encode_str,
    bytes: _encode_bytes,
    list: _encode_list,
    tuple: _encode_list,
    dict: _encode_mapping,
}
