"""Choose a checkpoint, verify it, and restore live training objects from it: all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias

import torch

from ckptstore import archive
from ckptstore.errors import (
    CheckpointNotFound,
    CorruptCheckpoint,
    IncompatibleCheckpoint,
    KeyNotFound,
    NewerFormat,
    ObjectChanged,
)
from ckptstore.experiment import CheckpointRecord, Experiment
from ckptstore.fitting import model_differences, optimizer_differences
from ckptstore.hashing import clean_names, unwrap
from ckptstore.keys import check_step
from ckptstore.notices import warn
from ckptstore.participants import find_model_if_any, find_optimizer
from ckptstore.saving import CHECKPOINT_FORMAT, Stateful, Training
from ckptstore.skeleton import materialise

MapLocation: TypeAlias = torch.device | str | None

_SHOWN_DIFFERENCES = 10
_SHOWN_STEPS = 20


def loading_targets(
    model: torch.nn.Module | None,
    model_name: str | None = None,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    optimizer_name: str | None = None,
    load_optimizer: bool = True,
    scheduler: Stateful | None = None,
    scaler: Stateful | None = None,
) -> Training:
    """Return what to load into: the objects given, else the ledger's, else nothing."""
    module = find_model_if_any(model, model_name)
    return Training(
        model=module,
        optimizer=find_optimizer(module, optimizer, optimizer_name, wanted=load_optimizer),
        scheduler=scheduler,
        scaler=scaler,
    )


def choose_step(experiment: Experiment, step: int, *, nearest: bool) -> CheckpointRecord:
    """Return the checkpoint of a step, one request; or with nearest the closest one, the lower of two, one listing.

    Raises:
        CheckpointNotFound: there is none; lists the steps there are.
    """
    check_step(step)
    if not nearest:
        try:
            return experiment.checkpoint(step)
        except CheckpointNotFound as error:
            steps = [record.step for record in experiment.checkpoints()]
            raise CheckpointNotFound(f"{error} (steps: {_listing(steps)})") from None
    records = experiment.checkpoints()
    if not records:
        raise CheckpointNotFound(f"experiment {experiment.exp_hash} has no checkpoints")
    return min(records, key=lambda record: (abs(record.step - step), record.step))


def _listing(steps: list[int]) -> str:
    if len(steps) <= _SHOWN_STEPS:
        return ", ".join(map(str, steps)) or "none"
    return f"{len(steps)} from {steps[0]} to {steps[-1]}; nearest=True takes the closest"


def read_checkpoint(
    experiment: Experiment,
    record: CheckpointRecord,
    *,
    index: archive.Index | None = None,
    map_location: MapLocation = None,
) -> dict[str, Any]:
    """Return a checkpoint's dict in fresh memory, every byte of it verified.

    Raises:
        CorruptCheckpoint: damaged, not a checkpoint, or of another experiment or step than its key says.
        NewerFormat: sound, but a newer version wrote it.
        KeyNotFound, ObjectChanged: deleted or replaced since it was listed.
    """
    state = archive.load(experiment.store, record.info.key, info=record.info, index=index, map_location=map_location)
    return _checked(state, record, experiment)


def _checked(state: Any, record: CheckpointRecord, experiment: Experiment) -> dict[str, Any]:
    where = experiment.where(record.info.key)
    if not isinstance(state, dict) or "model_state_dict" not in state:
        raise CorruptCheckpoint(f"{where} holds no model_state_dict; it is not a checkpoint of ckptstore")
    version = state.get("format", CHECKPOINT_FORMAT)
    if not isinstance(version, int) or version > CHECKPOINT_FORMAT:
        raise NewerFormat(f"{where} has format {version!r}, this is for {CHECKPOINT_FORMAT}; upgrade ckptstore")
    for name, expected in (("exp_hash", experiment.exp_hash), ("step", record.step)):
        if state.get(name, expected) != expected:
            raise CorruptCheckpoint(f"{where} holds {name} {state[name]!r}; it was renamed or copied to this key")
    return state


def first_sound(
    experiment: Experiment,
    candidates: Iterable[CheckpointRecord],
    *,
    indexes: Mapping[str, archive.Index] = MappingProxyType({}),
    map_location: MapLocation = None,
) -> tuple[CheckpointRecord, dict[str, Any]] | None:
    """Return the first candidate that is sound, with its contents; warn of each that is not; None when none is.

    Args:
        experiment: whose checkpoints they are.
        candidates: in the order to try.
        indexes: those that were read already, by key.
        map_location: as in ``torch.load``.

    Raises:
        NewerFormat: a newer version wrote a candidate; going on to an older one would lose its training.
    """
    for record in candidates:
        try:
            index = indexes.get(record.info.key)
            return record, read_checkpoint(experiment, record, index=index, map_location=map_location)
        except NewerFormat:
            raise
        except (CorruptCheckpoint, KeyNotFound, ObjectChanged) as error:
            warn(f"checkpoint skipped: {error}")
    return None


def restore(training: Training, state: Mapping[str, Any], *, where: str, strict: bool, device: MapLocation) -> None:
    """Load a checkpoint's contents into live objects: all of them, or none.

    Args:
        training: what to load into; None is passed over.
        state: a checkpoint's dict. The optimizer takes over its tensors.
        where: key and store, for messages.
        strict: False accepts missing and unknown model entries and converts dtypes.
        device: where the weights of a model on the meta device go; None is the CPU.

    Raises:
        IncompatibleCheckpoint: before anything is touched where the objects can tell, else after undoing it.
    """
    if lines := _differences(training, state, strict=strict):
        shown = "".join(f"\n  {line}" for line in lines[:_SHOWN_DIFFERENCES])
        rest = f"\n  and {len(lines) - _SHOWN_DIFFERENCES} more" if len(lines) > _SHOWN_DIFFERENCES else ""
        raise IncompatibleCheckpoint(f"{where} does not fit; nothing was loaded:{shown}{rest}", lines)
    undo: list[Callable[[], Any]] = []
    try:
        for name in ("scheduler", "scaler", "optimizer"):
            part = getattr(training, name)
            if part is not None:
                undo.append(partial(part.load_state_dict, part.state_dict()))
                part.load_state_dict(state[f"{name}_state_dict"])
        if training.model is not None:
            _load_model(unwrap(training.model), state["model_state_dict"], strict=strict, device=device or "cpu")
    except Exception as error:
        for act in reversed(undo):
            act()
        raise IncompatibleCheckpoint(f"{where} could not be loaded: {error}", (str(error),)) from error


def _differences(training: Training, state: Mapping[str, Any], *, strict: bool) -> tuple[str, ...]:
    lines = [
        f"{name}: given, but the checkpoint holds none; leave it out to load the rest"
        for name in ("optimizer", "scheduler", "scaler")
        if getattr(training, name) is not None and state.get(f"{name}_state_dict") is None
    ]
    if training.model is not None:
        lines += model_differences(unwrap(training.model), state["model_state_dict"], strict=strict)
    if training.optimizer is not None and state.get("optimizer_state_dict") is not None:
        lines += optimizer_differences(training.optimizer, state["optimizer_state_dict"])
    return tuple(lines)


def _load_model(
    model: torch.nn.Module, saved: Mapping[str, Any], *, strict: bool, device: torch.device | str
) -> None:
    materialise(model, device)
    own = model.state_dict()
    names = clean_names(model, own)
    state = type(own)((name, saved[names[name]]) for name in own if names[name] in saved)
    versions = getattr(saved, "_metadata", None)
    if versions is not None:
        paths = clean_names(model, own._metadata)  # type: ignore[attr-defined]  # noqa: SLF001  # as torch keeps it
        known = {path: versions[public] for path, public in paths.items() if public in versions}
        state._metadata = known  # type: ignore[attr-defined]  # noqa: SLF001
    model.load_state_dict(state, strict=strict)
