from __future__ import annotations

import io
from collections import OrderedDict
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptstore.archive import load, plan, read_index, savable
from ckptstore.archive.dtypes import DTYPES, torch_dtype
from ckptstore_backends.memory import MemoryStore
from tests.archives import same, sharing, tensors_in, written

pytestmark = pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")

STORE = MemoryStore("archive-properties")
ALL_DTYPES = sorted(map(torch_dtype, DTYPES), key=str)

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(st.characters()),
    st.binary(max_size=20),
    st.complex_numbers(),
    st.sampled_from(ALL_DTYPES),
    st.sampled_from([torch.device("cpu"), torch.device("cuda", 3), torch.Size([]), torch.Size([4, 0, 2])]),
)
KEYS = st.one_of(st.text(max_size=8), st.integers(), st.none(), st.tuples(st.integers(0, 9), st.text(max_size=3)))


class Pool(list[torch.UntypedStorage]):
    """Storages that the tensors of a state share; their bytes are too much for a message."""

    def __repr__(self) -> str:
        return f"{[storage.nbytes() for storage in self]}"


@st.composite
def tensors(draw: st.DrawFn, storages: Pool) -> torch.Tensor:
    """A view of any dtype, shape and stride of one of a few storages."""
    storage, dtype = draw(st.sampled_from(storages)), draw(st.sampled_from(ALL_DTYPES))
    room = storage.nbytes() // dtype.itemsize
    offset = draw(st.integers(0, room))
    shape, stride, left = [], [], room - offset
    for _ in range(draw(st.integers(0, 3))):
        size, step = draw(st.integers(0, 4)), draw(st.integers(0, 5))
        fitting = size if size <= 1 or step * (size - 1) < left else 1
        shape.append(fitting if left else 0)
        stride.append(step)
        left -= max(0, shape[-1] - 1) * step
    if not left and 0 not in shape:
        shape, stride = [0], [1]
    return torch.empty(0, dtype=dtype).set_(storage, offset, shape, stride)


@st.composite
def states(draw: st.DrawFn) -> dict[str, Any]:
    contents = draw(st.lists(st.binary(max_size=200), min_size=1, max_size=4))
    storages = Pool(torch.tensor(list(content), dtype=torch.uint8).untyped_storage() for content in contents)
    leaves = st.one_of(SCALARS, tensors(storages))
    nested = st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.lists(inner, max_size=5).map(tuple),
            st.dictionaries(KEYS, inner, max_size=4),
            st.dictionaries(KEYS, inner, max_size=4).map(OrderedDict),
            st.sets(st.text(max_size=3), max_size=4),
        ),
        max_leaves=20,
    )
    return draw(st.dictionaries(st.text(max_size=5), nested, max_size=5))


@given(states())
@settings(deadline=None, max_examples=150)
def test_any_state_comes_back_bit_for_bit_through_torch_and_through_us(state: dict[str, Any]) -> None:
    data = written(state)
    STORE.put("any.pt", data)
    for loaded in (torch.load(io.BytesIO(data), weights_only=True), load(STORE, "any.pt")):
        assert same(savable(state), loaded)
        if all(tensor.untyped_storage().nbytes() for tensor in tensors_in(state)):
            assert sharing(loaded) == sharing(state)


@given(states())
@settings(deadline=None, max_examples=50)
def test_any_state_has_the_planned_size_and_an_index_that_describes_it(state: dict[str, Any]) -> None:
    archive = plan(state)
    STORE.put("any.pt", archive.buffers())
    index = read_index(STORE, "any.pt")
    assert (index.size_bytes, index.digest) == (archive.size_bytes, archive.digest)
    shapes = [tuple(tensor.shape) for tensor in tensors_in(state)]
    assert [ref.shape for ref in _refs(index.state)] == shapes


@given(states())
@settings(deadline=None, max_examples=50)
def test_a_loaded_state_is_written_as_the_same_bytes(state: dict[str, Any]) -> None:
    data = written(state)
    STORE.put("any.pt", data)
    loaded = load(STORE, "any.pt")
    if all(tensor.untyped_storage().nbytes() for tensor in tensors_in(state)):
        assert written(loaded) == data


def _refs(value: Any) -> list[Any]:
    if hasattr(value, "storage_offset"):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [ref for item in items for ref in _refs(item)]
