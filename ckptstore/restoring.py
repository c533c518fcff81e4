"""Restore live training objects from a checkpoint's contents: all of them, or none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from ckptstore.errors import IncompatibleCheckpoint
from ckptstore.fitting import (
    may_fail_half_way,
    model_differences,
    optimizer_differences,
    renames_on_load,
    unmatched,
)
from ckptstore.hashing import clean_names, unwrap
from ckptstore.loading import MapLocation
from ckptstore.notices import warn
from ckptstore.saving import Training
from ckptstore.skeleton import materialise

_SHOWN_DIFFERENCES = 10


def restore(training: Training, state: Mapping[str, Any], *, where: str, strict: bool, device: MapLocation) -> None:
    """Load a checkpoint's contents into live objects: all of them, or none.

    What can be told beforehand is; a part that raises all the same is undone with those before it. Only an interrupt
    that hits the copying of the weights themselves leaves the model partly loaded: a second copy of a large model,
    made just in case, would cost more than it saves.

    Args:
        training: what to load into; None is passed over.
        state: a checkpoint's dict. The optimizer takes over its tensors.
        where: key and store, for messages.
        strict: False accepts missing and unknown model entries and converts dtypes.
        device: where the weights of a model on the meta device go; None is the CPU.

    Raises:
        IncompatibleCheckpoint: before anything is touched where the objects can tell, else after undoing it.
    """
    training = without_unsaved(training, state, where=where)
    with torch.inference_mode(mode=False):
        check_fit(training, state, where=where, strict=strict)
        undo: list[Callable[[], Any]] = []
        try:
            _restore_all(training, state, undo, strict=strict, device=device or "cpu")
        except BaseException as error:
            undo_all(undo)
            if isinstance(error, Exception):
                raise IncompatibleCheckpoint(f"{where} could not be loaded: {error}", (str(error),)) from error
            raise
    warn_of_rest(training, state, where=where, strict=strict)


def without_unsaved(training: Training, state: Mapping[str, Any], *, where: str) -> Training:
    """Return what to load into, without an optimizer that nobody asked for and the checkpoint does not hold."""
    if training.optimizer is None or training.optimizer_asked_for or "optimizer_state_dict" in state:
        return training
    warn(f"{where} holds no optimizer; the ledger's keeps its state")
    return replace(training, optimizer=None)


def check_fit(training: Training, state: Mapping[str, Any], *, where: str, strict: bool) -> None:
    """Compare a checkpoint's contents with live objects; its tensors may be on the meta device.

    Raises:
        IncompatibleCheckpoint: listing the differences.
    """
    if lines := _differences(training, state, strict=strict):
        shown = "".join(f"\n  {line}" for line in lines[:_SHOWN_DIFFERENCES])
        rest = f"\n  and {len(lines) - _SHOWN_DIFFERENCES} more" if len(lines) > _SHOWN_DIFFERENCES else ""
        raise IncompatibleCheckpoint(f"{where} does not fit; nothing was loaded:{shown}{rest}", lines)


def undo_all(undo: list[Callable[[], Any]]) -> None:
    """Call what undoes each step, the last one first."""
    for act in reversed(undo):
        act()


def warn_of_rest(training: Training, state: Mapping[str, Any], *, where: str, strict: bool) -> None:
    """Warn of what a load that is not strict left out."""
    if training.model is None or strict:
        return
    lacking, left = unmatched(unwrap(training.model), state["model_state_dict"])
    if lacking or left:
        warn(f"{where} was loaded in part: it lacks {lacking} entries of the model, the model lacks {left} of its")


def _restore_all(
    training: Training,
    state: Mapping[str, Any],
    undo: list[Callable[[], Any]],
    *,
    strict: bool,
    device: torch.device | str,
) -> None:
    if training.model is not None:  # before the optimizer, whose state goes where its parameters are
        undo.append(materialise(unwrap(training.model), device))
    restore_parts(training, state, undo, ("scheduler", "scaler", "optimizer"))
    if training.model is not None:
        model = unwrap(training.model)
        if may_fail_half_way(model):
            undo.append(keeping(model))
        load_model(model, state["model_state_dict"], strict=strict)


def restore_parts(
    training: Training, state: Mapping[str, Any], undo: list[Callable[[], Any]], names: Iterable[str]
) -> None:
    """Load the state of some of a loop's objects besides the model; what undoes it is added to the list first."""
    for name in names:
        part = getattr(training, name)
        if part is not None:
            before = part.state_dict()
            undo.append(partial(part.load_state_dict, before))
            part.load_state_dict(_with_counters(state[f"{name}_state_dict"], before))


def _with_counters(saved: Any, before: Any) -> Any:
    """Return a scheduler's state with a Counter, which a file holds as a dict, where it had one before."""
    if not isinstance(before, Mapping):
        return saved
    counters = [name for name, value in before.items() if isinstance(value, Counter) and name in saved]
    return {**saved, **{name: Counter(saved[name]) for name in counters}} if counters else saved


def keeping(model: torch.nn.Module, *, but: Collection[int] = ()) -> Callable[[], None]:
    """Copy a model's tensors, and return what puts them back; those at some addresses are left out."""
    before = {
        name: value.clone()
        for name, value in model.state_dict().items()
        if isinstance(value, torch.Tensor)
        and not value.is_meta
        and not name.endswith("_extra_state")
        and not (but and value.data_ptr() in but)
    }
    return partial(_put_back, model, before)


def _put_back(model: torch.nn.Module, before: Mapping[str, Any]) -> None:
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name in before:
                value.copy_(before[name])


def _differences(training: Training, state: Mapping[str, Any], *, strict: bool) -> tuple[str, ...]:
    lines = [
        f"{name}: given, but the checkpoint holds none; leave it out to load the rest"
        for name in ("optimizer", "scheduler", "scaler")
        if getattr(training, name) is not None and not isinstance(state.get(f"{name}_state_dict"), dict)
    ]
    if training.model is not None:
        lines += model_differences(unwrap(training.model), state["model_state_dict"], strict=strict)
    if training.optimizer is not None and isinstance(state.get("optimizer_state_dict"), dict):
        lines += optimizer_differences(training.optimizer, state["optimizer_state_dict"])
    return tuple(lines)


def load_model(model: torch.nn.Module, saved: Mapping[str, Any], *, strict: bool) -> None:
    """Load a model_state_dict, with the names of an unwrapped module, into an unwrapped module."""
    own = model.state_dict()
    public = clean_names(model, own)
    actual = {clean: name for name, clean in public.items()}
    renaming = renames_on_load(model)
    pairs = ((actual.get(name, name), value) for name, value in saved.items() if renaming or name in actual)
    state = type(own)(pairs)
    versions = getattr(saved, "_metadata", None)
    if versions is not None:
        paths = clean_names(model, own._metadata)  # type: ignore[attr-defined]  # noqa: SLF001  # as torch keeps it
        known = {path: versions[clean] for path, clean in paths.items() if clean in versions}
        state._metadata = known  # type: ignore[attr-defined]  # noqa: SLF001
    values = own.values()
    for_inference = any(value.is_inference() for value in values if isinstance(value, torch.Tensor))
    with torch.inference_mode(mode=for_inference):  # else torch refuses to write to such tensors, after writing
        model.load_state_dict(state, strict=strict)
