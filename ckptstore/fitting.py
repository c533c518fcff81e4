"""Say how a checkpoint differs from the objects it is to be loaded into, before anything is touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from ckptstore.hashing import clean_names

_PER_PARAMETER = frozenset(
    {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg", "acc_delta", "grad_avg", "exp_inf"}
    | {"sum", "prev", "step_size", "ax", "variance"}
)
"""State that torch.optim's own optimizers keep in the shape of its parameter."""

_OF_SCHEDULERS = frozenset(
    {"initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr", "param_names", "name"}
)
"""Keys of a parameter group that a scheduler, or the way it was made, puts there."""


def model_differences(model: torch.nn.Module, saved: Mapping[str, Any], *, strict: bool) -> tuple[str, ...]:
    """Return one line for each entry that is missing, unknown, or of another shape or dtype; empty when it fits.

    Args:
        model: an unwrapped module.
        saved: a model_state_dict, with the names of an unwrapped module.
        strict: False accepts missing and unknown entries and another dtype, never another shape.
    """
    own = model.state_dict()
    names = clean_names(model, own)
    if lazy := [names[name] for name, value in own.items() if is_lazy(value)]:
        return tuple(
            f"{name}: uninitialized, the module is lazy; run one batch through the model first" for name in lazy
        )
    expected = {names[name]: value for name, value in own.items()}
    if renames_on_load(model):  # only loading itself can tell
        strict, saved = False, {name: value for name, value in saved.items() if name in expected}
    return (*_model_lines(expected, saved, strict=strict), *_unfilled(model, saved))


def renames_on_load(model: torch.nn.Module) -> bool:
    """Whether a module of the model changes a state dict before it loads it, as parametrizations do."""
    return any(
        module._load_state_dict_pre_hooks  # noqa: SLF001  # torch has no public word for it
        for module in model.modules()
    )


def may_fail_half_way(model: torch.nn.Module) -> bool:
    """Whether loading runs code of a module's own, which may raise when others are loaded already."""
    own = torch.nn.Module
    return renames_on_load(model) or any(
        type(module)._load_from_state_dict is not own._load_from_state_dict  # noqa: SLF001
        or type(module).set_extra_state is not own.set_extra_state
        or module._load_state_dict_post_hooks  # noqa: SLF001
        for module in model.modules()
    )


def _unfilled(model: torch.nn.Module, saved: Mapping[str, Any]) -> Iterator[str]:
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    names = clean_names(model, [name for name, _ in tensors])
    filled = {id(tensor) for name, tensor in tensors if names[name] in saved}
    for name, tensor in tensors:
        if tensor.is_meta and id(tensor) not in filled:
            yield f"{names[name]}: on the meta device, not in the checkpoint; build the model on a real device"


def _model_lines(expected: Mapping[str, Any], saved: Mapping[str, Any], *, strict: bool) -> Iterator[str]:
    for name, value in expected.items():
        if name not in saved:
            if strict:
                yield f"{name}: in the model, not in the checkpoint"
        elif isinstance(value, torch.Tensor) and not name.endswith("_extra_state"):
            yield from _tensor_lines(name, value, saved[name], strict=strict)
    if strict:
        yield from (f"{name}: in the checkpoint, not in the model" for name in saved if name not in expected)


def unmatched(model: torch.nn.Module, saved: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many entries of the model the checkpoint lacks, and how many of its own the model lacks."""
    public = set(clean_names(model, model.state_dict()).values())
    return len(public - saved.keys()), len(saved.keys() - public)


def _tensor_lines(name: str, own: torch.Tensor, saved: Any, *, strict: bool) -> Iterator[str]:
    if not isinstance(saved, torch.Tensor):
        yield f"{name}: a tensor in the model, a {type(saved).__name__} in the checkpoint"
    elif own.shape != saved.shape:
        yield f"{name}: shape {list(own.shape)} in the model, {list(saved.shape)} in the checkpoint"
    elif strict and own.dtype != saved.dtype:
        yield f"{name}: {own.dtype} in the model, {saved.dtype} in the checkpoint"


def optimizer_differences(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> tuple[str, ...]:
    """Return one line for each way in which an optimizer_state_dict does not fit; empty when it fits."""
    if not isinstance(saved, Mapping) or not isinstance(saved.get("param_groups"), list):
        return ("optimizer: the checkpoint holds no optimizer state dict",)
    groups, own_groups = saved["param_groups"], optimizer.param_groups
    if len(groups) != len(own_groups):
        return (f"optimizer: {len(own_groups)} parameter groups, {len(groups)} in the checkpoint",)
    lines = [
        line for i in range(len(groups)) for line in _group_lines(i, own_groups[i], groups[i], optimizer.defaults)
    ]
    return tuple(lines or _state_lines(own_groups, groups, saved.get("state", {})))


def _group_lines(
    index: int, own: Mapping[str, Any], saved: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Iterator[str]:
    if len(own["params"]) != len(saved["params"]):
        yield f"optimizer group {index}: {len(own['params'])} parameters, {len(saved['params'])} in the checkpoint"
    missing = sorted(defaults.keys() - saved.keys())
    unknown = sorted(saved.keys() - own.keys() - _OF_SCHEDULERS)
    if missing and unknown:  # one side alone is another version of torch, both are another optimizer
        yield f"optimizer group {index}: has {', '.join(missing)}; the checkpoint has {', '.join(unknown)} instead"


def _state_lines(own_groups: Any, groups: Any, state: Mapping[Any, Any]) -> Iterator[str]:
    for own, saved in zip(own_groups, groups, strict=True):
        for parameter, number in zip(own["params"], saved["params"], strict=True):
            for name, value in state.get(number, {}).items():
                if name in _PER_PARAMETER and isinstance(value, torch.Tensor) and value.shape != parameter.shape:
                    shapes = f"{list(value.shape)} in the checkpoint, the parameter is {list(parameter.shape)}"
                    yield f"optimizer state {name} of parameter {number}: {shapes}"
