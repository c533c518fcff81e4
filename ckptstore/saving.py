"""Make a checkpoint out of live training objects and write it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter, eq
from typing import Any, Protocol, TypeAlias

import torch

from ckptstore.archive import savable
from ckptstore.checkpoints import CHECKPOINT_FORMAT
from ckptstore.errors import UnsavableState, UnsupportedModel
from ckptstore.hashing import WRAPPER_SEGMENTS, clean_names, unwrap
from ckptstore.rng import capture_rng

_SHAPE = attrgetter("shape")
_TENSORS = frozenset({torch.Tensor, torch.nn.Parameter})


Signature: TypeAlias = tuple[tuple[str, ...], tuple[object, ...]]
"""Names and shapes of a model's tensors: enough to see that a model was rebuilt in place."""


def signature_of(model_state_dict: Mapping[str, Any], last: Signature | None = None) -> Signature:
    """Return names and shapes of a state dict; the last signature itself where it is equal, which takes less time."""
    values = model_state_dict.values()
    tensors = values if _TENSORS.issuperset(map(type, values)) else [v for v in values if isinstance(v, torch.Tensor)]
    names = tuple(model_state_dict)
    if last and names == last[0] and len(tensors) == len(last[1]) and all(map(eq, map(_SHAPE, tensors), last[1])):
        return last
    return names, tuple(map(_SHAPE, tensors))


class Stateful(Protocol):
    """A scheduler, a GradScaler, or anything else with state of its own."""

    def state_dict(self) -> Any:
        """Return the state."""

    def load_state_dict(self, state_dict: Any) -> Any:
        """Take on a state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """The live objects of a training loop; whatever is None is left out.

    Attributes:
        model: the module, wrapped or not; a save needs one.
        optimizer: its optimizer.
        scheduler: of the learning rate, or a list's worth of them behind one state_dict.
        scaler: a GradScaler.
        optimizer_asked_for: False where it only happened to be in the ledger.
    """

    model: torch.nn.Module | None = None
    optimizer: torch.optim.Optimizer | None = None
    scheduler: Stateful | None = None
    scaler: Stateful | None = None
    optimizer_asked_for: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a checkpoint stands in the history of runs.

    Attributes:
        exp_hash: the experiment it belongs to.
        run_id: the process (manager) that saves it.
        resumed_from: experiment, step and run that this run went on from; None for a run from scratch.
        config: in effect at this moment, in its plain form.
    """

    exp_hash: str
    run_id: str
    resumed_from: Mapping[str, Any] | None
    config: Mapping[str, Any] | None


def checkpoint_state(
    training: Training, *, step: int, metadata: Mapping[str, Any] | None, origin: Origin, save_rng: bool
) -> dict[str, Any]:
    """Return the dict that a checkpoint file holds; its tensors are the live ones, not copies."""
    state: dict[str, Any] = {
        "format": CHECKPOINT_FORMAT,
        "step": step,
        "exp_hash": origin.exp_hash,
        "timestamp": datetime.now(UTC).isoformat(timespec="microseconds"),
        "model_state_dict": None if training.model is None else model_state(training.model),
    }
    for name in ("optimizer", "scheduler", "scaler"):
        part = getattr(training, name)
        if part is not None:
            state[f"{name}_state_dict"] = part.state_dict()
    state["metadata"] = plain_metadata(metadata)
    state["config"] = origin.config
    if save_rng:
        state["rng_state"] = capture_rng()
    state["run_id"] = origin.run_id
    state["resumed_from"] = origin.resumed_from
    return state


def model_state(model: torch.nn.Module) -> dict[str, Any]:
    """Return the model's state dict under the names it has without wrappers (no ``module.``, no ``_orig_mod.``).

    The versions that torch keeps beside it (``_metadata``) are renamed the same way.

    Raises:
        UnsupportedModel: there is nothing in it.
    """
    bare = unwrap(model)
    state = _state_of(bare)
    if not state:
        raise UnsupportedModel(f"{type(bare).__name__} has neither parameters nor buffers; there is nothing to save")
    versions = getattr(state, "_metadata", None)
    if not _may_be_wrapped((*state, *(versions or ()))):
        return state
    names = clean_names(bare, state)
    renamed = type(state)((names[name], value) for name, value in state.items())
    if versions is not None:
        paths = clean_names(bare, versions)
        renamed._metadata = type(versions)((paths[path], value) for path, value in versions.items())  # type: ignore[attr-defined]  # noqa: SLF001
    return renamed


def _state_of(bare: torch.nn.Module) -> dict[str, Any]:
    """Return the state dict, with the parameters themselves in it where that makes no difference but in time."""
    if type(bare).state_dict is torch.nn.Module.state_dict:  # else keep_vars may be unknown
        with torch.no_grad():
            state: dict[str, Any] = bare.state_dict(keep_vars=True)
        if _TENSORS.issuperset(map(type, state.values())):
            return state
    return bare.state_dict()


def _may_be_wrapped(names: Iterable[str]) -> bool:
    """Whether any name may have a segment that a wrapper put in; looking closer takes time in a large model."""
    text = "\n".join(names)
    return any(segment in text for segment in WRAPPER_SEGMENTS)


def plain_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return metadata with 0-d tensors and numpy scalars as plain numbers.

    Raises:
        UnsavableState: it is no mapping, or holds what weights_only loading would refuse; names the path.
    """
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise UnsavableState(f"metadata is a {type(metadata).__name__}; pass a dict such as {{'loss': 0.1}}")
    return {key: _with_numbers(value) for key, value in savable(metadata, path="metadata").items()}


def _with_numbers(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.item() if value.ndim == 0 else value.clone()  # not the large tensor that it may be a slice of
    if isinstance(value, dict):
        return {key: _with_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_with_numbers, value))
    return value
