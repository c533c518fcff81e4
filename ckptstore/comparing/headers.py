"""What a checkpoint says besides its tensors, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["described", "facts"]

_FACTS = ("step", "exp_hash", "timestamp", "run_id", "resumed_from", "metadata", "config")


def facts(header: Mapping[str, Any]) -> dict[str, Any]:
    """Return what people compare: step, time, run, metadata, config in effect, and the optimizer's options."""
    found = {name: described(header[name]) for name in _FACTS if header.get(name) is not None}
    optimizer = header.get("optimizer_state_dict")
    groups = optimizer.get("param_groups") if isinstance(optimizer, Mapping) else None
    if isinstance(groups, list):
        found["optimizer"] = [
            {name: described(value) for name, value in group.items() if name != "params"}
            for group in groups
            if isinstance(group, Mapping)
        ]
    return found


def described(value: Any) -> Any:
    """Return a value of an index as plain data, with a short text in place of each tensor."""
    if isinstance(value, Mapping):
        return {key: described(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [described(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(map(described, value), key=repr)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"tensor {str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return str(value)
