"""What an old checkpoint file holds, under the names that such files use."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ckptstore import archive
from ckptstore.errors import CorruptCheckpoint, NewerFormat, UnsavableState, UnsupportedFormat, UntrustedPickle
from ckptstore.objects import ObjectInfo
from ckptstore.saving import model_state, plain_metadata
from ckptstore.store import Store

__all__ = ["OldContents", "read_contents", "shape_digest"]

_MODEL = ("model_state_dict", "state_dict", "model", "weights")
_PARTS = {
    "optimizer": ("optimizer_state_dict", "optimizer", "optimizer_state", "optim"),
    "scheduler": ("scheduler_state_dict", "lr_scheduler_state_dict", "scheduler", "lr_scheduler"),
    "scaler": ("scaler_state_dict", "scaler", "grad_scaler"),
}
_CONFIG = ("config", "hparams", "hyper_parameters", "hyperparameters")
_STEP = ("step", "global_step", "iteration")
_WRAPPERS = ("module.", "_orig_mod.")


@dataclass(frozen=True, slots=True)
class OldContents:
    """What a file holds.

    Attributes:
        model_state: the state dict of the model.
        model: the model itself, where it was pickled whole.
        parts: state of "optimizer", "scheduler" and "scaler".
        step: the training step, None where it says nothing.
        config: of the run, None where it says nothing.
        metadata: everything else that is plain.
        left_out: names of what is not.
    """

    model_state: Mapping[str, Any]
    model: torch.nn.Module | None = None
    parts: Mapping[str, Any] = field(default_factory=dict)
    step: int | None = None
    config: Any = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def read_contents(store: Store, info: ObjectInfo, *, trusted: bool) -> OldContents:
    """Return what a file holds. Reads all of it into memory.

    Args:
        store: the old folder.
        info: of the file.
        trusted: run the code that a pickle asks for, where there is no other way to read it.

    Raises:
        UntrustedPickle: there is no other way, and it is not trusted.
        CorruptCheckpoint: it is damaged, or holds no model.
        KeyNotFound, ObjectChanged: it went or was replaced meanwhile.
    """
    try:
        held = archive.load(store, info.key, info=info)
    except NewerFormat:
        raise
    except UnsupportedFormat:
        if not trusted:
            raise UntrustedPickle(
                f"{info.key} holds more than tensors and plain data, such as a pickled model, and loading that can "
                "run code; import it with --trusted (trusted=True) if you know who wrote it"
            ) from None
        held = _unpickled(store, info)
    return _contents(held, info.key)


def shape_digest(model_state: Mapping[str, Any]) -> str:
    """Return a digest of the names, shapes and dtypes of a state dict: what is known of a model without the model."""
    facts = [
        [name, list(value.shape), str(value.dtype)]
        for name, value in model_state.items()
        if isinstance(value, torch.Tensor)
    ]
    return hashlib.sha256(json.dumps(facts, separators=(",", ":")).encode()).hexdigest()


def _unpickled(store: Store, info: ObjectInfo) -> Any:
    try:
        return torch.load(io.BytesIO(store.get(info.key)), map_location="cpu", weights_only=False)
    except Exception as error:  # the pickle's own code runs, which may raise anything  # noqa: BLE001
        raise CorruptCheckpoint(f"{info.key} cannot be unpickled ({type(error).__name__}: {error})") from None


def _contents(held: Any, name: str) -> OldContents:
    if isinstance(held, torch.nn.Module):
        return OldContents(dict(model_state(held)), model=held)
    if not isinstance(held, Mapping):
        raise CorruptCheckpoint(f"{name} holds a {type(held).__name__}, neither a model nor a dict")
    if _is_state_dict(held):
        return OldContents(_unwrapped(held))
    found = next((key for key in _MODEL if isinstance(held.get(key), Mapping | torch.nn.Module)), None)
    if found is None:
        raise CorruptCheckpoint(f"{name} holds no model under any of {', '.join(_MODEL)}; it has {_listed(held)}")
    model = held[found] if isinstance(held[found], torch.nn.Module) else None
    state = _unwrapped(held[found]) if model is None else dict(model_state(model))
    taken = {found}
    parts = {part: _state_of(held, names, taken) for part, names in _PARTS.items()}
    config, step = _first(held, _CONFIG, taken), _first(held, _STEP, taken)
    metadata, left_out = _metadata({key: value for key, value in held.items() if key not in taken})
    return OldContents(
        state,
        model=model,
        parts={part: value for part, value in parts.items() if value is not None},
        step=step if isinstance(step, int) and not isinstance(step, bool) and step >= 0 else None,
        config=config,
        metadata=metadata,
        left_out=left_out,
    )


def _is_state_dict(held: Mapping[Any, Any]) -> bool:
    entries = [value for name, value in held.items() if not str(name).endswith("_extra_state")]
    return bool(entries) and all(isinstance(value, torch.Tensor) for value in entries)


def _unwrapped(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a state dict without the prefix that wrappers put before every name."""
    for prefix in _WRAPPERS:
        if state and all(str(name).startswith(prefix) for name in state):
            return _unwrapped({name.removeprefix(prefix): value for name, value in state.items()})
    return state


def _state_of(held: Mapping[str, Any], names: tuple[str, ...], taken: set[str]) -> Any:
    found = _first(held, names, taken)
    return found.state_dict() if hasattr(found, "state_dict") else found


def _first(held: Mapping[str, Any], names: tuple[str, ...], taken: set[str]) -> Any:
    name = next((name for name in names if held.get(name) is not None), None)
    if name is None:
        return None
    taken.add(name)
    return held[name]


def _metadata(rest: Mapping[Any, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    plain: dict[str, Any] = {}
    left_out: list[str] = []
    for key, value in rest.items():
        if key == "metadata" and isinstance(value, Mapping):
            inner, without = _metadata(value)
            plain.update(inner)
            left_out += without
            continue
        try:
            plain.update(plain_metadata({key: value}))
        except UnsavableState:
            left_out.append(str(key))
    return plain, tuple(left_out)


def _listed(held: Mapping[Any, Any]) -> str:
    return ", ".join(map(repr, list(held)[:8])) or "nothing"
