from __future__ import annotations

import datetime as dt
import enum
import io
from collections import Counter, OrderedDict, defaultdict, namedtuple
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch

from ckptstore.archive import plan, savable
from ckptstore.errors import UnsavableState
from tests.archives import same, sharing, written


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Word(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


class Count(int):
    def __int__(self) -> int:
        return 99


Point = namedtuple("Point", "x y")  # noqa: PYI024  # what users of namedtuple save


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Word("a"), "a"),
        (Count(5), 5),
        (Path("/a/b"), "/a/b"),
        (PurePosixPath("c"), "c"),
        (dt.datetime(2024, 5, 6, 7, 8, 9, tzinfo=dt.UTC), "2024-05-06T07:08:09+00:00"),
        (dt.date(2024, 5, 6), "2024-05-06"),
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.int64(-3), -3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.str_("s"), "s"),
        (np.complex64(1 + 2j), 1 + 2j),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"ab"), b"ab"),
        (frozenset({1, 2}), {1, 2}),
        (Point(1, 2.0), (1, 2.0)),
        (Counter("aab"), {"a": 2, "b": 1}),
        (defaultdict(list, {"a": [1]}), {"a": [1]}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        ({Colour.RED: 1, Level.HIGH: 2, (1, "a"): 3, None: 4, 2.5: 5, b"k": 6}, None),
        (torch.Size([2, 3]), torch.Size([2, 3])),
        (torch.bfloat16, torch.bfloat16),
        (torch.device("cuda", 1), torch.device("cuda", 1)),
        ("\ud800 lone surrogate", "\ud800 lone surrogate"),
        (2**2038, 2**2038),
        (-(2**2038), -(2**2038)),
    ],
    ids=lambda value: type(value).__name__,  # a repr may hold an address, and workers must agree
)
def test_what_has_a_plain_form_is_saved_in_that_form(value: Any, expected: Any) -> None:
    if expected is None:
        expected = {"red": 1, 3: 2, (1, "a"): 3, None: 4, 2.5: 5, b"k": 6}
    assert same(savable(value), expected)
    assert same(torch.load(io.BytesIO(written({"value": value})), weights_only=True), {"value": expected})


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (lambda: None, "state['metadata'][0]['fn'] is a function"),
        (object(), "is a object"),
        (iter([]), "save a list or a dict"),
        (torch.nn.Linear(1, 1), "save its state_dict()"),
        (2**2040, "an int of 2041 bits"),
        (np.array(["a"]), "numpy <U1"),
        (np.array([None]), "numpy object"),
        (np.datetime64("2024-01-01"), "numpy datetime64"),
        (np.longdouble(1), "numpy float128"),
        (np.ma.masked_array([1, 2], mask=[True, False]), "MaskedArray"),
        ({frozenset({1}): 1}, "has a key of type frozenset"),
        ({torch.tensor(1): 1}, "has a key of type Tensor"),
        ({Path("a"): 1, "a": 2}, "two keys that are saved as 'a'"),
        ({torch.tensor(1)}, "has a key of type Tensor"),
        (torch.empty(2, device="meta"), "is on the meta device"),
        (torch.eye(2).to_sparse(), "is a sparse_coo tensor"),
        (torch.nn.LazyLinear(3).weight, "run the lazy module once"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_has_none_is_refused_with_its_path(value: Any, says: str) -> None:
    with pytest.raises(UnsavableState) as caught:
        plan({"metadata": [{"fn": value}]})
    assert says in str(caught.value)
    assert "state['metadata'][0]['fn']" in str(caught.value)


def test_the_path_begins_with_the_name_that_the_caller_gives() -> None:
    with pytest.raises(UnsavableState, match=r"^metadata\['a'\]\[1\] is a "):
        savable({"a": [1, print]}, "metadata")


def test_what_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append({"again": loop})
    with pytest.raises(UnsavableState, match="nested deeper than 100 levels, or contains itself"):
        plan({"loop": loop})


def test_ninety_levels_are_saved() -> None:
    deep: Any = 1
    for _ in range(90):
        deep = [deep]
    assert savable({"deep": deep}) == {"deep": deep}


@pytest.mark.filterwarnings(
    "ignore:Sparse CSR tensor support", "ignore:.*quantize_per_tensor", "ignore:.*nested tensors"
)
def test_compressed_quantized_and_nested_tensors_are_refused() -> None:
    with pytest.raises(UnsavableState, match="is a nested tensor"):
        savable(torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]))
    with pytest.raises(UnsavableState, match="is a sparse_csr tensor"):
        savable(torch.eye(2).to_sparse_csr())
    quantized = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    with pytest.raises(UnsavableState, match="is a quantized tensor"):
        savable(quantized)


def test_a_tensor_subclass_is_refused_by_name() -> None:
    class Labelled(torch.Tensor):
        pass

    with pytest.raises(UnsavableState, match=r"Labelled; save a plain torch\.Tensor"):
        savable(torch.ones(2).as_subclass(Labelled))


def test_parameters_become_detached_tensors_over_the_same_memory() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    copy = savable({"weight": weight, "view": weight[1:]})
    assert type(copy["weight"]) is torch.Tensor
    assert not copy["weight"].requires_grad
    assert copy["weight"].data_ptr() == weight.data_ptr()
    assert copy["view"].data_ptr() == weight[1:].data_ptr()


def test_conjugate_and_negative_views_are_saved_as_their_values() -> None:
    values = torch.tensor([1 + 2j, 3 - 4j])
    state = {"conjugate": values.conj(), "negative": values.conj().imag}
    loaded = torch.load(io.BytesIO(written(state)), weights_only=True)
    assert torch.equal(loaded["conjugate"], torch.tensor([1 - 2j, 3 + 4j]))
    assert torch.equal(loaded["negative"], torch.tensor([-2.0, 4.0]))
    assert not loaded["conjugate"].is_conj()


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_numpy_array_is_saved_as_a_tensor_of_its_own(order: str) -> None:
    array = np.arange(6, dtype=f"{order}i4").reshape(2, 3)[:, ::-1]
    copy = savable({"array": array})["array"]
    assert copy.dtype == torch.int32
    assert copy.tolist() == [[2, 1, 0], [5, 4, 3]]
    array[:] = 0
    assert copy.tolist() == [[2, 1, 0], [5, 4, 3]]


def test_the_metadata_of_a_state_dict_survives() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    state: Any = model.state_dict()
    loaded: Any = torch.load(io.BytesIO(written(state)), weights_only=True)
    assert type(loaded) is OrderedDict
    assert vars(loaded) == vars(state)
    assert vars(loaded)["_metadata"]["1"] == {"version": 2}
    model.load_state_dict(loaded)


def test_a_copy_of_a_copy_is_equal_and_tied_in_the_same_way() -> None:
    base = torch.arange(10.0)
    state = {"a": base, "b": [base[2:], base.view(torch.int32)], "c": OrderedDict(x=(1, {2}))}
    once = savable(state)
    assert same(savable(once), once)
    assert sharing(once) == sharing(state) == [0, 0, 0]
