"""The dtypes that an archive holds, by name, so that what lies where is known without torch, which takes 200 MiB."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["DTYPES", "Dtype", "name_of", "storage_class", "torch_dtype"]


@dataclass(frozen=True, slots=True)
class Dtype:
    """What formats call a dtype.

    Attributes:
        itemsize: of an element, in bytes.
        storage: the name in torch's persistent ids of a storage that holds one dtype; later dtypes have none.
        safetensors: its name there, in the README of huggingface/safetensors (version 0.8); None where it has none.
        numbers: how many make up an element: two of a complex one.
    """

    itemsize: int
    storage: str | None = None
    safetensors: str | None = None
    numbers: int = 1


DTYPES = {
    "float64": Dtype(8, "DoubleStorage", "F64"),
    "float32": Dtype(4, "FloatStorage", "F32"),
    "float16": Dtype(2, "HalfStorage", "F16"),
    "bfloat16": Dtype(2, "BFloat16Storage", "BF16"),
    "int64": Dtype(8, "LongStorage", "I64"),
    "int32": Dtype(4, "IntStorage", "I32"),
    "int16": Dtype(2, "ShortStorage", "I16"),
    "int8": Dtype(1, "CharStorage", "I8"),
    "uint8": Dtype(1, "ByteStorage", "U8"),
    "bool": Dtype(1, "BoolStorage", "BOOL"),
    "complex128": Dtype(16, "ComplexDoubleStorage", numbers=2),
    "complex64": Dtype(8, "ComplexFloatStorage", "C64", numbers=2),
    "uint16": Dtype(2, safetensors="U16"),
    "uint32": Dtype(4, safetensors="U32"),
    "uint64": Dtype(8, safetensors="U64"),
    "complex32": Dtype(4, numbers=2),
    "float8_e4m3fn": Dtype(1, safetensors="F8_E4M3"),
    "float8_e4m3fnuz": Dtype(1, safetensors="F8_E4M3FNUZ"),
    "float8_e5m2": Dtype(1, safetensors="F8_E5M2"),
    "float8_e5m2fnuz": Dtype(1, safetensors="F8_E5M2FNUZ"),
    "float8_e8m0fnu": Dtype(1),
    "float4_e2m1fn_x2": Dtype(1),
}
"""Every dtype that an archive holds, by its name in torch."""


def storage_class(names: Iterable[str], size_bytes: int) -> str | None:
    """Return torch's name for a storage of these dtypes; None where they are mixed, new or leave a remainder."""
    name, *others = names
    return None if others or size_bytes % DTYPES[name].itemsize else DTYPES[name].storage


@cache
def name_of(dtype: torch.dtype) -> str:
    """Return the name of a dtype of torch."""
    return str(dtype).removeprefix("torch.")


@cache
def torch_dtype(name: str) -> torch.dtype:
    """Return the dtype of torch that has this name, one of `DTYPES`."""
    import torch  # not above: nothing but this needs it

    found: torch.dtype = getattr(torch, name)
    return found
