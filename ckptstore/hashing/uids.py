"""Sample UIDs, in batches, and the sum of their hashes.

The hash of a UID is XXH3-128 of its bytes with a seed for its type: str 1 (UTF-8), bytes 2, int 3 (two's complement,
little-endian, 8 bytes or as many more as it needs). So 1, "1" and b"1" are three UIDs.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, repeat
from typing import Any, TypeAlias

from xxhash import xxh3_128_intdigest

from ckptstore.errors import UnsupportedUID
from ckptstore.hashing.integers import sum_of_hashes

UID: TypeAlias = str | bytes | int
Batch: TypeAlias = "list[UID] | Any"
"""Either a list of UIDs, or a numpy array of int64."""

MODULUS = 1 << 128
_BATCH = 1 << 16
_STR, _BYTES, _INT = 1, 2, 3
_ADVICE = "UIDs are str, bytes or int"


def batches(uids: Iterable[Any]) -> Iterator[Batch]:
    """Yield the UIDs of any iterable in batches of bounded size, in order.

    numpy and torch integers become int, arrays of integers or text and integer tensors are taken in slices.

    Raises:
        UnsupportedUID: a UID of another type, or a collection that is a str, bytes, a mapping or no iterable.
    """
    if isinstance(uids, str | bytes | bytearray | Mapping) or not hasattr(uids, "__iter__"):
        raise UnsupportedUID(f"sample UIDs were given as one {type(uids).__name__}; give an iterable, such as a list")
    if (torch := sys.modules.get("torch")) and isinstance(uids, torch.Tensor):
        uids = _array_of(uids)
    if (numpy := sys.modules.get("numpy")) and isinstance(uids, numpy.ndarray):
        return _array_batches(uids)
    return _list_batches(uids)


def sum_of_batch(batch: Batch) -> int:
    """Return the sum of the hashes of a batch, not yet reduced mod 2**128."""
    if not isinstance(batch, list):
        return sum_of_hashes(batch, _INT)
    kinds = set(map(type, batch))
    if kinds == {str}:
        return _sum_of_texts(batch)
    if kinds == {int}:
        return _sum_of_integers(batch)
    return sum(map(hash_uid, batch))


def hash_uid(uid: UID) -> int:
    """Return the hash of one UID, in 128 bits."""
    if isinstance(uid, str):
        return xxh3_128_intdigest(uid.encode("utf-8", "surrogatepass"), _STR)
    if isinstance(uid, bytes):
        return xxh3_128_intdigest(uid, _BYTES)
    size = max(8, (uid + (uid < 0)).bit_length() // 8 + 1)
    return xxh3_128_intdigest(uid.to_bytes(size, "little", signed=True), _INT)


def check_uid(uid: Any) -> UID:
    """Return the UID as an exact str, bytes or int.

    Raises:
        UnsupportedUID: for any other type, bool included.
    """
    if isinstance(uid, str):
        return str.__str__(uid)
    if isinstance(uid, bytes):
        return bytes(uid)
    if not isinstance(uid, bool) and str(getattr(uid, "dtype", "")) not in {"bool", "torch.bool"}:
        try:
            return int.__int__(operator.index(uid))
        except TypeError:
            pass
    raise UnsupportedUID(f"{uid!r:.80} is of type {type(uid).__name__}; {_ADVICE}, convert it first")


def _list_batches(uids: Iterable[Any]) -> Iterator[list[UID]]:
    rest = iter(uids)
    while batch := list(islice(rest, _BATCH)):
        yield batch if set(map(type, batch)) <= {str, bytes, int} else list(map(check_uid, batch))


def _array_of(tensor: Any) -> Any:
    if tensor.is_floating_point() or tensor.is_complex() or tensor.is_meta:
        raise UnsupportedUID(f"sample UIDs were given as a tensor of {tensor.dtype} on {tensor.device}; {_ADVICE}")
    return tensor.cpu().numpy()


def _array_batches(array: Any) -> Iterator[Batch]:
    if array.ndim != 1 or array.dtype.kind not in "iuUSO":
        raise UnsupportedUID(
            f"sample UIDs were given as an array of {array.dtype}, {array.ndim}-d; {_ADVICE}, in one row"
        )
    for start in range(0, len(array), _BATCH):
        part = array[start : start + _BATCH]
        wide = array.dtype.kind == "u" and array.dtype.itemsize == 8 and int(part.max()) >= 1 << 63
        if array.dtype.kind in "iu" and not wide:
            yield part.astype("int64")
        else:
            yield list(map(check_uid, part.tolist()))


def _sum_of_texts(batch: Sequence[Any]) -> int:
    try:
        return sum(map(xxh3_128_intdigest, map(str.encode, batch), repeat(_STR)))
    except UnicodeEncodeError:
        return sum(map(hash_uid, batch))


def _sum_of_integers(batch: Sequence[Any]) -> int:
    import numpy as np

    try:
        return sum_of_hashes(np.array(batch, np.int64), _INT)
    except OverflowError:
        return sum(map(hash_uid, batch))
