"""Modules that wrap a model without changing it, and the names that are left when they are looked through."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ckptstore.errors import UnsupportedModel

if TYPE_CHECKING:
    from torch import nn

WRAPPER_SEGMENTS = ("module", "_orig_mod")
"""The names under which wrappers hold what they wrap: without one of them, a name is as it would be unwrapped."""


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model inside DataParallel, DistributedDataParallel and torch.compile, however they are nested.

    Wrappers further down the tree stay; `clean_names` looks through those too.

    Raises:
        UnsupportedModel: this is no torch module.
    """
    _check_module(model)
    while (inner := _inner_name(model)) is not None:
        model = getattr(model, inner)
    return model


def clean_names(model: nn.Module, names: Iterable[str]) -> dict[str, str]:
    """Return, for each name in the model's state dict, the name it has without wrappers.

    A segment such as ``module.`` is left out only where a wrapper of this very model holds what it wraps, so a
    submodule that is called "module" keeps its name. Names of no module stay as they are. The order is that of
    `names`, and no two state dict names become one, so the result can be inverted.

    Raises:
        UnsupportedModel: this is no torch module, or one that contains itself.
    """
    public = {actual: clean for actual, clean, _ in _walk(model)}
    return {name: _clean(name, public) for name in names}


def public_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield each module with its path, in registration order, parents first, wrappers left out.

    A module that is registered twice comes twice; the root's path is "".
    """
    return ((clean, module) for _, clean, module in _walk(model) if _inner_name(module) is None)


def join_path(parent: str, name: str) -> str:
    """Return the path of what a module holds under a name."""
    return f"{parent}.{name}" if parent else name


def _walk(model: nn.Module) -> list[tuple[str, str, nn.Module]]:
    _check_module(model)
    try:
        modules = dict(model.named_modules(remove_duplicate=False))
    except RecursionError:
        raise UnsupportedModel("the model contains itself as a submodule; break the cycle first") from None
    clean: dict[str, str] = {}
    for path in modules:
        parent, _, name = path.rpartition(".")
        looked_through = path != "" and _inner_name(modules[parent]) == name
        clean[path] = clean[parent] if looked_through else join_path(clean.get(parent, ""), name)
    return [(path, clean[path], module) for path, module in modules.items()]


def _clean(name: str, public: dict[str, str]) -> str:
    path = name
    while path and path not in public:
        path = path.rpartition(".")[0]
    rest = name[len(path) :].removeprefix(".")
    return join_path(public[path], rest) if rest else public[path]


def _inner_name(module: nn.Module) -> str | None:
    nn = sys.modules["torch.nn"]  # there, as the module is; asked for twice for each module of a model
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return "module"
    # Imported by torch.compile at the latest; importing it here would cost seconds.
    compiler = sys.modules.get("torch._dynamo.eval_frame")
    return "_orig_mod" if compiler and isinstance(module, compiler.OptimizedModule) else None


def _check_module(model: object) -> None:
    from torch import nn

    if not isinstance(model, nn.Module):
        raise UnsupportedModel(f"a model is a torch.nn.Module, not {type(model).__name__}; give an instance")
