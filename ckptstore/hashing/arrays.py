"""Arrays and tensors to plain data: a mapping of dtype, shape and bytes."""

from __future__ import annotations

import sys
from typing import Any

from ckptstore.hashing.scalars import UNREDUCED, NoPlainForm


def reduce_array(value: object) -> object:
    """Return the plain form of a numpy array or torch tensor, or UNREDUCED for what is none.

    The form is ``{"array": dtype, "shape": [..], "bytes": elements in C order, little-endian}``, wherever the tensor
    lies and however it is strided; the same for an array and a tensor of one dtype. One element without a shape is
    that element, and an array of text the list of its strings.

    Raises:
        NoPlainForm: for an array of objects, a sparse tensor, or a tensor without values.
    """
    if (numpy := sys.modules.get("numpy")) and isinstance(value, numpy.ndarray):
        return _reduce_ndarray(value)
    if (torch := sys.modules.get("torch")) and isinstance(value, torch.Tensor):
        return _reduce_tensor(value, torch)
    return UNREDUCED


def _reduce_ndarray(array: Any) -> object:
    dtype = array.dtype
    if dtype.kind in "US":
        return array.tolist()
    if dtype.kind not in "biufc" or dtype.name in {"longdouble", "clongdouble", "float128", "complex256", "float96"}:
        raise NoPlainForm(f"is a numpy array of {dtype}, which has no plain form; give a list or an array of numbers")
    if array.ndim == 0:
        return _element(array.item())
    return _tagged(dtype.name, array.shape, array.astype(dtype.newbyteorder("<"), order="C").tobytes())


def _reduce_tensor(tensor: Any, torch: Any) -> object:
    if tensor.is_meta or tensor.layout is not torch.strided or tensor.is_quantized:
        raise NoPlainForm("is a tensor on the meta device, sparse or quantized; give a dense one with values")
    here = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    if here.ndim == 0:
        return _element(here.item())
    raw = here.reshape(-1).view(torch.uint8).numpy().tobytes()
    return _tagged(str(here.dtype).removeprefix("torch."), here.shape, raw)


def _element(item: object) -> bool | int | float:
    if isinstance(item, bool | int | float):
        return item
    raise NoPlainForm(f"is a {type(item).__name__}, which has no plain form; give its parts")


def _tagged(dtype: str, shape: tuple[int, ...], raw: bytes) -> dict[str, object]:
    return {"array": dtype, "shape": list(shape), "bytes": raw}
