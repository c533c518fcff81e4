"""Read a checkpoint, and verify that it is what its key says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import torch

from ckptstore import archive
from ckptstore.checkpoints import CHECKPOINT_FORMAT, CheckpointRecord
from ckptstore.choosing import index_of
from ckptstore.errors import (
    CorruptCheckpoint,
    KeyNotFound,
    NewerFormat,
    ObjectChanged,
    PartlyLoaded,
)
from ckptstore.experiment import Experiment
from ckptstore.notices import warn
from ckptstore.participants import check_stateful, find_model_if_any, find_optimizer
from ckptstore.saving import Stateful, Training

MapLocation: TypeAlias = torch.device | str | None

Mmap: TypeAlias = Literal[False, True, "verified"]
"""Whether tensors are the file itself, on a local disk: True checks no CRC32, "verified" reads all once to do so."""

Reader: TypeAlias = Callable[[CheckpointRecord, archive.Index | None], dict[str, Any]]
"""Reads a checkpoint, given its index where that is known; raises as `read_checkpoint`."""

_UNSOUND = (CorruptCheckpoint, KeyNotFound, ObjectChanged)


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


def read_checkpoint(
    experiment: Experiment,
    record: CheckpointRecord,
    *,
    index: archive.Index | None = None,
    map_location: MapLocation = None,
    mmap: Mmap = False,
) -> dict[str, Any]:
    """Return a checkpoint's dict in fresh memory, every byte of it verified; or with mmap as the file itself.

    Raises:
        CorruptCheckpoint: damaged, not a checkpoint, or of another experiment or step than its key says.
        NewerFormat: sound, but a newer version wrote it.
        KeyNotFound, ObjectChanged: deleted or replaced since it was listed; one that was compressed is still read.
        UnsupportedOperation: with mmap, where the store has no files, or this one is compressed.
    """
    if mmap not in {False, True, "verified"}:
        raise ValueError(f"mmap is False, True or 'verified', not {mmap!r}")

    def read(form: CheckpointRecord) -> Any:
        known = index if form is record else None
        return archive.load(experiment.store, form.info.key, info=form.info, index=known, map_location=map_location)

    with torch.inference_mode(mode=False):  # else training could not go on with what is loaded
        if mmap:
            known = index_of(experiment, record) if index is None else index
            state = archive.load_mapped(
                experiment.store, known, verified=mmap == "verified", map_location=map_location
            )
        else:
            state = experiment.in_either_form(record, read)
    return checked_contents(state, record, experiment)


def checked_contents(state: Any, record: CheckpointRecord, experiment: Experiment) -> dict[str, Any]:
    """Return a checkpoint's dict if it is what its key says.

    Raises:
        CorruptCheckpoint, NewerFormat: as `read_checkpoint`.
    """
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
    candidates: Iterable[CheckpointRecord],
    read: Reader,
    *,
    indexes: Mapping[str, archive.Index] = MappingProxyType({}),
) -> tuple[CheckpointRecord, dict[str, Any]] | None:
    """Return the first candidate that is sound, with its contents; warn of each that is not; None when none is.

    Args:
        candidates: in the order to try.
        read: reads one, given its index where that is known.
        indexes: those that were read already, by key.

    Raises:
        NewerFormat: a newer version wrote a candidate; going on to an older one would lose its training.
        PartlyLoaded: one was read in place and turned out to be damaged, and none after it was sound.
    """
    undefined: PartlyLoaded | None = None
    for record in candidates:
        try:
            return record, read(record, indexes.get(record.info.key))
        except BaseException as error:
            if not _is_unsound(error):
                if undefined is not None:
                    error.add_note(f"before that, {undefined}")
                raise
            warn(f"checkpoint skipped: {error}")
            if isinstance(error, PartlyLoaded):
                undefined = error
    if undefined is not None:
        raise undefined
    return None


def _is_unsound(error: BaseException) -> bool:
    if isinstance(error, PartlyLoaded):
        return isinstance(error.__cause__, _UNSOUND)
    return isinstance(error, _UNSOUND) and not isinstance(error, NewerFormat)
