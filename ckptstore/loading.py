"""Choose a checkpoint, verify it, and restore live training objects from it: all or nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
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
from ckptstore.fitting import (
    may_fail_half_way,
    model_differences,
    optimizer_differences,
    renames_on_load,
    unmatched,
)
from ckptstore.hashing import clean_names, unwrap
from ckptstore.keys import check_step
from ckptstore.notices import warn
from ckptstore.participants import check_stateful, find_model_if_any, find_optimizer
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
    """Return what to load into: the objects given, else the ledger's, else nothing.

    Raises:
        LedgerError, UnsupportedModel, TypeError, ValueError: what was given cannot be loaded into.
    """
    module = find_model_if_any(model, model_name)
    check_stateful(scheduler, "scheduler")
    check_stateful(scaler, "scaler")
    found = find_optimizer(module, optimizer, optimizer_name, wanted=load_optimizer)
    named = optimizer is not None or optimizer_name is not None
    return Training(model=module, optimizer=found, scheduler=scheduler, scaler=scaler, optimizer_asked_for=named)


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
    with torch.inference_mode(mode=False):  # else training could not go on with what is loaded
        state = archive.load(
            experiment.store, record.info.key, info=record.info, index=index, map_location=map_location
        )
    return _checked(state, record, experiment)


def _checked(state: Any, record: CheckpointRecord, experiment: Experiment) -> dict[str, Any]:
    where = experiment.where(record.info.key)
    if not isinstance(state, dict) or not isinstance(state.get("model_state_dict"), dict):
        raise CorruptCheckpoint(f"{where} holds no model_state_dict; it is not a checkpoint of ckptstore")
    version = state.get("format", CHECKPOINT_FORMAT)
    if not isinstance(version, int) or version > CHECKPOINT_FORMAT:
        raise NewerFormat(f"{where} has format {version!r}, this is for {CHECKPOINT_FORMAT}; upgrade ckptstore")
    for name, expected in (("exp_hash", experiment.exp_hash), ("step", record.step)):
        if type(state.get(name, expected)) is not type(expected) or state.get(name, expected) != expected:
            raise CorruptCheckpoint(f"{where} holds {name} {state[name]!r}; it was renamed or copied to this key")
    if not isinstance(state.get("rng_state", {}), dict):
        raise CorruptCheckpoint(f"{where} holds an rng_state that ckptstore did not write")
    return {"step": record.step, **state}


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
    if training.optimizer is not None and not training.optimizer_asked_for and "optimizer_state_dict" not in state:
        warn(f"{where} holds no optimizer; the ledger's keeps its state")
        training = replace(training, optimizer=None)
    with torch.inference_mode(mode=False):
        if lines := _differences(training, state, strict=strict):
            shown = "".join(f"\n  {line}" for line in lines[:_SHOWN_DIFFERENCES])
            rest = f"\n  and {len(lines) - _SHOWN_DIFFERENCES} more" if len(lines) > _SHOWN_DIFFERENCES else ""
            raise IncompatibleCheckpoint(f"{where} does not fit; nothing was loaded:{shown}{rest}", lines)
        undo: list[Callable[[], Any]] = []
        try:
            _restore_all(training, state, undo, strict=strict, device=device or "cpu")
        except BaseException as error:
            for act in reversed(undo):
                act()
            if isinstance(error, Exception):
                raise IncompatibleCheckpoint(f"{where} could not be loaded: {error}", (str(error),)) from error
            raise
    if training.model is not None and not strict:
        lacking, left = unmatched(unwrap(training.model), state["model_state_dict"])
        if lacking or left:
            warn(
                f"{where} was loaded in part: it lacks {lacking} entries of the model, the model lacks {left} of its"
            )


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
    for name in ("scheduler", "scaler", "optimizer"):
        part = getattr(training, name)
        if part is not None:
            before = part.state_dict()
            undo.append(partial(part.load_state_dict, before))
            part.load_state_dict(_with_counters(state[f"{name}_state_dict"], before))
    if training.model is not None:
        model = unwrap(training.model)
        if may_fail_half_way(model):
            undo.append(partial(_put_back, model, _copied(model)))
        _load_model(model, state["model_state_dict"], strict=strict)


def _with_counters(saved: Any, before: Any) -> Any:
    """Return a scheduler's state with a Counter, which a file holds as a dict, where it had one before."""
    if not isinstance(before, Mapping):
        return saved
    counters = [name for name, value in before.items() if isinstance(value, Counter) and name in saved]
    return {**saved, **{name: Counter(saved[name]) for name in counters}} if counters else saved


def _copied(model: torch.nn.Module) -> dict[str, Any]:
    state = model.state_dict()
    return {
        name: value.clone() if isinstance(value, torch.Tensor) and not value.is_meta else value
        for name, value in state.items()
        if not name.endswith("_extra_state")
    }


def _put_back(model: torch.nn.Module, before: Mapping[str, Any]) -> None:
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if isinstance(value, torch.Tensor) and name in before and not before[name].is_meta:
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


def _load_model(model: torch.nn.Module, saved: Mapping[str, Any], *, strict: bool) -> None:
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
    model.load_state_dict(state, strict=strict)
