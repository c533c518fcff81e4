"""One module of a model, as plain data."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckptstore.errors import UnsupportedModel
from ckptstore.hashing.arguments import argument_names, kept_arguments
from ckptstore.hashing.behaviour import Behaviour, behaviour_of
from ckptstore.hashing.methods import is_method
from ckptstore.hashing.naming import full_name, identity_of, is_of_torch
from ckptstore.hashing.wrappers import join_path

if TYPE_CHECKING:
    import torch
    from torch import nn

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_SHARDED = "describe the model before it is sharded, and save it with torch.distributed.checkpoint"
_SHOWS_VALUES = re.compile(r"tensor\(|Parameter containing")


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    arguments: frozenset[str]
    behaviour: Behaviour


class ModuleDescriber:
    """Describes the modules of one model, each once, in order.

    Attributes:
        sources: full name of each class with code of its own to whether its source counted in all of its modules.
    """

    def __init__(self, *, forward_source: bool) -> None:
        self.sources: dict[str, bool] = {}
        self._forward_source = forward_source
        self._kinds: dict[type, _Kind] = {}
        self._tensor_paths: dict[int, str] = {}

    def describe(self, module: nn.Module, path: str) -> dict[str, Any]:
        """Return the plain description of the module itself, without its children and its path.

        Raises:
            UnsupportedModel: a parameter has no shape yet, or is one shard of several.
        """
        _check_whole_module(module, path)
        kind = self._kind_of(type(module))
        behaviour = self._behaviour_of(module, kind)
        names = kind.arguments - behaviour.stored
        return {
            "class": kind.name,
            "extra_repr": _extra_repr(module, path),
            "arguments": kept_arguments(module, names),
            "parameters": list(self._parameters(module, path)),
            "buffers": list(self._buffers(module, path)),
            "source": self._source(module, behaviour),
        }

    def _kind_of(self, kind: type) -> _Kind:
        if kind not in self._kinds:
            self._kinds[kind] = _Kind(identity_of(kind), argument_names(kind), behaviour_of(kind))
        return self._kinds[kind]

    def _behaviour_of(self, module: nn.Module, kind: _Kind) -> Behaviour:
        attributes = vars(module)
        names = kind.behaviour.methods & attributes.keys()
        overrides = {name: attributes[name] for name in names if is_method(attributes[name])}
        return behaviour_of(type(module), overrides) if overrides else kind.behaviour

    def _source(self, module: nn.Module, behaviour: Behaviour) -> object:
        source = _source_of(module, behaviour) if self._forward_source else None
        if not (is_of_torch(type(module)) and behaviour.is_of_torch):
            name = full_name(type(module))
            self.sources[name] = self.sources.get(name, True) and source is not None
        return source

    def _parameters(self, module: nn.Module, path: str) -> Iterator[list[Any]]:
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            yield [name, *self._tensor(parameter, join_path(path, name))]

    def _buffers(self, module: nn.Module, path: str) -> Iterator[list[Any]]:
        passing: Any = getattr(module, "_non_persistent_buffers_set", frozenset())
        for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
            yield [name, *self._tensor(buffer, join_path(path, name)), name not in passing]

    def _tensor(self, tensor: torch.Tensor, path: str) -> list[Any]:
        _check_whole(tensor, path)
        first = self._tensor_paths.setdefault(id(tensor), path)
        return [list(tensor.shape), str(tensor.dtype), first if first != path else None]


def _source_of(module: nn.Module, behaviour: Behaviour) -> object:
    if not isinstance(module, sys.modules["torch"].jit.ScriptModule):
        return behaviour.source
    try:
        return {"script": module.code}
    except (AttributeError, RuntimeError):  # it has no forward
        return None


def _extra_repr(module: nn.Module, path: str) -> str:
    try:
        text = module.extra_repr()
        return "" if _SHOWS_VALUES.search(text) else _ADDRESS.sub("", text)
    except Exception as error:
        raise UnsupportedModel(f"extra_repr() of module {path!r} failed: {type(error).__name__}: {error}") from error


def _check_whole_module(module: nn.Module, path: str) -> None:
    sharding = sys.modules.get("torch.distributed.fsdp")
    if sharding and isinstance(module, sharding.FullyShardedDataParallel):
        raise UnsupportedModel(f"module {path!r} is sharded by FullyShardedDataParallel; {_SHARDED}")


def _check_whole(tensor: torch.Tensor, path: str) -> None:
    if sys.modules["torch.nn.parameter"].is_lazy(tensor):
        raise UnsupportedModel(
            f"{path!r} has no shape yet: the module is lazy; run one batch through the model first"
        )
    sharded = sys.modules.get("torch.distributed.tensor")
    if sharded and isinstance(tensor, sharded.DTensor):
        raise UnsupportedModel(f"{path!r} is a DTensor, one shard of several; {_SHARDED}")
