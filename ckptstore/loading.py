"""Choose a checkpoint, read it, and verify that it is what its key says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import torch

from ckptstore import archive
from ckptstore.errors import (
    CheckpointNotFound,
    CorruptCheckpoint,
    KeyNotFound,
    NewerFormat,
    ObjectChanged,
)
from ckptstore.experiment import CheckpointRecord, Experiment
from ckptstore.keys import check_step
from ckptstore.notices import warn
from ckptstore.participants import check_stateful, find_model_if_any, find_optimizer
from ckptstore.saving import CHECKPOINT_FORMAT, Stateful, Training

MapLocation: TypeAlias = torch.device | str | None

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
