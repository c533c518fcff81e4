"""The architecture file: a model's classes, structure and constants, without its weights.

Parameters and persistent buffers are pickled as meta tensors, every other tensor (non-persistent buffers such as
rotary tables, plain attributes) by value. Classes that other programs cannot import are pickled by value with
cloudpickle, which ties the file to one Python minor version and takes along the globals that their methods name: no
secret should be one. Unpickling runs code: only for files one trusts.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch

from ckptstore.companions import SealedPickle, open_pickle, seal_pickle
from ckptstore.errors import CorruptCheckpoint, UnsupportedFormat, UnsupportedModel
from ckptstore.hashing import unwrap
from ckptstore.objects import Buffer

MAX_TENSOR_BYTES = MAX_SKELETON_BYTES = 64 * 1024 * 1024
"""The most that one tensor pickled by value, or all of the skeleton, may take."""


def dump_skeleton(model: torch.nn.Module) -> bytes:
    """Return the sealed architecture file of a model; wrappers such as DataParallel are left out.

    Raises:
        UnsupportedModel: it cannot be pickled, or what is neither a parameter nor a persistent buffer is over 64 MiB;
            the message names a single tensor of that size.
    """
    bare = unwrap(model)
    target = _Bounded()
    try:
        _pickler(target, bare).dump(bare)
    except UnsupportedModel:
        raise
    except Exception as error:  # any __reduce__ in the model may raise anything
        raise UnsupportedModel(
            f"{type(bare).__name__} cannot be pickled as an architecture: {error}; "
            "drop the attribute before saving, or leave it out in __getstate__"
        ) from error
    body = target.getvalue()
    return seal_pickle(SealedPickle(body, _python(), by_value=b"cloudpickle" in body))


class _Bounded(io.BytesIO):
    """A buffer that refuses to grow into a data set that a model, or a function of a notebook, happens to hold."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > MAX_SKELETON_BYTES:
            raise UnsupportedModel(
                f"the model's architecture takes over {MAX_SKELETON_BYTES} bytes besides its weights; "
                "it, or a global that its methods use, holds data: keep that outside of the model"
            )
        return super().write(data)


def load_skeleton(data: Buffer, where: str) -> torch.nn.Module:
    """Return the model of an architecture file, weights on the meta device; this runs code that the file names.

    Args:
        data: the file's bytes.
        where: key and store, for the message.

    Raises:
        CorruptCheckpoint: the bytes are not what was written, or hold no module.
        UnsupportedFormat: it holds classes by value and another Python minor version wrote it, or a class it names
            cannot be imported here.
    """
    sealed = open_pickle(data, where)
    if sealed.by_value and sealed.python != _python():
        raise UnsupportedFormat(
            f"{where} holds classes by value, written by Python {sealed.python}; "
            f"load it there, not in Python {_python()}, or define the classes in an importable module"
        )
    try:
        model = pickle.loads(sealed.body)
    except (ImportError, AttributeError) as error:
        raise UnsupportedFormat(f"{where} names a class that is not here: {error}; make it importable") from error
    except Exception as error:  # a pickle may raise anything
        raise CorruptCheckpoint(f"{where} is not an architecture file: {error}") from error
    if not isinstance(model, torch.nn.Module):
        raise CorruptCheckpoint(f"{where} holds a {type(model).__name__}, not a module")
    return model


def architecture_text(model: torch.nn.Module) -> str:
    """Return the model as people read it: its printed form and the number of its parameters."""
    bare = unwrap(model)
    count = sum(parameter.numel() for parameter in bare.parameters())
    return f"{bare}\n\nparameters: {count:,}\n"


def materialise(model: torch.nn.Module, device: torch.device | str) -> Callable[[], None]:
    """Give every meta tensor of a model memory on a device, uninitialised, and return what undoes it.

    The tensors stay the objects they are: ties, attributes, hooks and the optimizers that hold them go on with them.
    """
    swapped: list[tuple[torch.Tensor, torch.Tensor]] = []
    tensors = {id(tensor): tensor for module in model.modules() for tensor in _registered(module)}
    for tensor in tensors.values():
        if tensor.is_meta:
            real = _empty(tuple(tensor.shape), tensor.stride(), tensor.dtype, device, _role(tensor))
            real.__dict__.update(tensor.__dict__)
            torch.utils.swap_tensors(tensor, real)  # type: ignore[no-untyped-call]
            swapped.append((tensor, real))

    def undo() -> None:
        for tensor, other in swapped:
            torch.utils.swap_tensors(tensor, other)  # type: ignore[no-untyped-call]

    return undo


def _registered(module: torch.nn.Module) -> Iterator[torch.Tensor]:
    for registry in (module._parameters, module._buffers):  # noqa: SLF001  # what state_dict itself walks
        yield from (tensor for tensor in registry.values() if tensor is not None)


def _pickler(target: io.BytesIO, model: torch.nn.Module) -> pickle.Pickler:
    import cloudpickle

    weights = {id(tensor) for tensor in _weights(model)}

    class SkeletonPickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle ships no types
        def reducer_override(self, value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return super().reducer_override(value)
            if id(value) in weights:
                return _meta_tensor, (tuple(value.shape), value.stride(), value.dtype, _role(value))
            return _tensor_by_value, _bytes_of(value, model)

    pickler: pickle.Pickler = SkeletonPickler(target)
    return pickler


def _weights(model: torch.nn.Module) -> Iterator[torch.Tensor]:
    yield from model.parameters()
    for module in model.modules():
        transient = module._non_persistent_buffers_set  # noqa: SLF001  # torch has no public word for it
        for name, buffer in module._buffers.items():  # noqa: SLF001
            if buffer is not None and name not in transient:
                yield buffer


def _role(tensor: torch.Tensor) -> str:
    """Return what a tensor is to its module: "buffer", "frozen" or "trained" parameter."""
    if not isinstance(tensor, torch.nn.Parameter):
        return "buffer"
    return "trained" if tensor.requires_grad else "frozen"


def _empty(
    shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype, device: torch.device | str, role: str
) -> torch.Tensor:
    tensor = torch.empty_strided(shape, stride, dtype=dtype, device=device)
    return tensor if role == "buffer" else torch.nn.Parameter(tensor, requires_grad=role == "trained")


def _meta_tensor(shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype, role: str) -> torch.Tensor:
    return _empty(shape, stride, dtype, "meta", role)


def _bytes_of(tensor: torch.Tensor, model: torch.nn.Module) -> tuple[bytes, tuple[int, ...], torch.dtype, str]:
    if tensor.nbytes > MAX_TENSOR_BYTES:
        raise UnsupportedModel(
            f"{_attribute_of(tensor, model)} is a tensor of {tensor.nbytes} bytes outside the state dict; "
            "register it as a persistent buffer, or build it in forward"
        )
    flat = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
    return flat.numpy().tobytes(), tuple(tensor.shape), tensor.dtype, _role(tensor)


def _tensor_by_value(data: bytes, shape: tuple[int, ...], dtype: torch.dtype, role: str) -> torch.Tensor:
    flat = torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)
    tensor = flat.reshape(shape)
    return tensor if role == "buffer" else torch.nn.Parameter(tensor, requires_grad=role == "trained")


def _attribute_of(tensor: torch.Tensor, model: torch.nn.Module) -> str:
    for path, module in model.named_modules():
        for name, value in (*vars(module).items(), *module._buffers.items()):  # noqa: SLF001
            if value is tensor:
                return f"attribute {path + '.' if path else ''}{name} of {type(model).__name__}"
    return f"a value inside {type(model).__name__}"


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"
