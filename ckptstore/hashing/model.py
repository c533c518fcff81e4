"""A model's architecture, described without touching a weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from ckptstore.hashing.encoding import digest, remembered_digest
from ckptstore.hashing.modules import ModuleDescriber
from ckptstore.hashing.wrappers import public_modules

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What identifies a model's architecture.

    Attributes:
        digest: of the whole, 64 hex digits.
        modules: path of each module, in registration order, to the digest of its own description; "" is the root.
        sources: name of each class defined outside torch to whether its source counted.
    """

    digest: str
    modules: Mapping[str, str]
    sources: Mapping[str, bool]


def describe_model(model: nn.Module, *, forward_source: bool = True) -> ModelDescription:
    """Describe the architecture of a model.

    What counts: the tree of modules in registration order, and of each its path, its class, `extra_repr()`, the
    constructor's arguments that it keeps under the same attribute name (data by value, functions and classes by
    name), the names, shapes and dtypes of its parameters and buffers, whether a buffer is persistent, which of them
    are tied, and for classes defined outside torch the source of `forward` and of the methods that it reaches through
    `self`, with the plain class constants that they use, without comments, docstrings and annotations.

    What does not: values, device, requires_grad, train or eval mode; wrappers (DataParallel, DistributedDataParallel,
    torch.compile); an attribute that `forward` sets; functions outside the class, beyond their names; and for
    classes defined outside torch the Python module that they are in, so that a script gives the same hash whether it
    is run or imported.

    Args:
        model: the model; it may lie on any device, the meta device included.
        forward_source: False leaves all source out.

    Raises:
        UnsupportedModel: no torch module, or one that is lazy and has not run, sharded, or contains itself.
    """
    describer = ModuleDescriber(forward_source=forward_source)
    first_path: dict[int, str] = {}
    modules: dict[str, str] = {}
    for path, module in public_modules(model):
        first = first_path.setdefault(id(module), path)
        modules[path] = remembered_digest(describer.describe(module, path) if first == path else {"same as": first})
    return ModelDescription(
        digest(list(modules.items())), MappingProxyType(modules), MappingProxyType(describer.sources)
    )
