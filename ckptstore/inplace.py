"""Load a checkpoint straight into the memory of live objects: no second copy of the weights, and no way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from ckptstore import archive
from ckptstore.archive import TensorRef
from ckptstore.checkpoints import CheckpointRecord
from ckptstore.choosing import index_of
from ckptstore.errors import IncompatibleCheckpoint, PartlyLoaded
from ckptstore.experiment import Experiment
from ckptstore.fitting import may_fail_half_way
from ckptstore.hashing import clean_names, unwrap
from ckptstore.loading import MapLocation, checked_contents
from ckptstore.restoring import (
    check_fit,
    keeping,
    load_model,
    restore_parts,
    undo_all,
    warn_of_rest,
    without_unsaved,
)
from ckptstore.saving import Training
from ckptstore.skeleton import materialise


def restore_in_place(
    training: Training,
    experiment: Experiment,
    record: CheckpointRecord,
    *,
    index: archive.Index | None = None,
    strict: bool,
    map_location: MapLocation = None,
) -> dict[str, Any]:
    """Read a checkpoint into the model's own memory, and into the optimizer's where it has its tensors already.

    Whatever can be told beforehand is: the index, the shapes and dtypes, the structure of the optimizer. The bytes
    themselves are verified as they come, when they are in the model already. A tensor that cannot take them as they
    are (another dtype or order of dimensions, memory shared with another view or object in the checkpoint, an
    optimizer before its first step) is read into fresh memory first.

    Args:
        training: what to load into; it has a model.
        experiment: whose checkpoint it is.
        record: the checkpoint.
        index: from `index_of`, where it was read already.
        strict: as for `restore`.
        map_location: where a model on the meta device goes, and what nobody takes.

    Returns:
        The checkpoint's dict, without the optimizer, scheduler and scaler that nobody takes, which are not read; the
        tensors in it are the model's and the optimizer's own.

    Raises:
        IncompatibleCheckpoint: it does not fit; nothing was touched.
        CorruptCheckpoint, ObjectChanged: found before the first byte; nothing was touched.
        UnsupportedFormat: torch.save wrote it, which has no index.
        PartlyLoaded: damage, or anything else, after the first byte; the values of model and optimizer are undefined.
    """
    index = index_of(experiment, record) if index is None else index
    where = experiment.where(index.key)
    expected = checked_contents(index.state_of(_without_values), record, experiment)
    training = without_unsaved(training, expected, where=where)
    undo: list[Callable[[], Any]] = []
    with torch.inference_mode(mode=False):
        check_fit(training, expected, where=where, strict=strict)
        try:
            undo.append(materialise(unwrap(_model(training)), map_location or "cpu"))
            left = _not_taken(training)
            places = _places(training, index, archive.unshared(index, leave_out=left))
            state = archive.read_around(experiment.store, index, places, leave_out=left, map_location=map_location)
            restore_parts(training, state, undo, ("scheduler", "scaler"))
            _rehearse(training, state, places, undo, where=where, strict=strict)
        except BaseException:
            undo_all(undo)
            raise
        with _no_way_back(where, undo):
            archive.fill(experiment.store, index, places)
            restore_parts(training, state, undo, ("optimizer",))
            load_model(unwrap(_model(training)), state["model_state_dict"], strict=strict)
    warn_of_rest(training, state, where=where, strict=strict)
    return {"step": record.step, **state}


def _rehearse(
    training: Training,
    state: Mapping[str, Any],
    places: archive.Places,
    undo: list[Callable[[], Any]],
    *,
    where: str,
    strict: bool,
) -> None:
    """Load the model once before the bytes, where only its own code can tell whether it takes what it is given."""
    model = unwrap(_model(training))
    if not may_fail_half_way(model):
        return
    undo.append(keeping(model, but={place.data_ptr() for place in places.values()}))
    try:
        load_model(model, state["model_state_dict"], strict=strict)
    except Exception as error:
        raise IncompatibleCheckpoint(f"{where} could not be loaded: {error}", (str(error),)) from error


@contextmanager
def _no_way_back(where: str, undo: list[Callable[[], Any]]) -> Iterator[None]:
    undefined = "the values of model and optimizer are undefined now; load a sound checkpoint into them before use"
    try:
        yield
    except BaseException as error:
        undo_all(undo)
        if isinstance(error, Exception):
            raise PartlyLoaded(
                f"{where} was being loaded in place when this came up: {error}; {undefined}"
            ) from error
        error.add_note(undefined)
        raise


def _not_taken(training: Training) -> list[str]:
    return [f"{name}_state_dict" for name in ("optimizer", "scheduler", "scaler") if getattr(training, name) is None]


def _places(training: Training, index: archive.Index, unshared: set[TensorRef]) -> dict[TensorRef, torch.Tensor]:
    places: dict[TensorRef, torch.Tensor] = {}
    taken: set[int] = set()
    for ref, tensor in _pairs(training, index):
        if ref in places or ref not in unshared or not archive.can_be_placed(index, ref, tensor):
            continue
        if tensor.data_ptr() not in taken:
            places[ref] = tensor.detach()
            taken.add(tensor.data_ptr())
    return places


def _pairs(training: Training, index: archive.Index) -> Iterator[tuple[TensorRef, torch.Tensor]]:
    model = unwrap(_model(training))
    own = model.state_dict()
    public = clean_names(model, own)
    yield from _matching({public[name]: value for name, value in own.items()}, index.state["model_state_dict"])
    if training.optimizer is None:
        return
    saved = index.state["optimizer_state_dict"]
    for group, saved_group in zip(training.optimizer.param_groups, saved["param_groups"], strict=True):
        for parameter, number in zip(group["params"], saved_group["params"], strict=True):
            yield from _matching(training.optimizer.state.get(parameter, {}), saved["state"].get(number, {}))


def _matching(own: Mapping[str, Any], saved: Mapping[str, Any]) -> Iterator[tuple[TensorRef, torch.Tensor]]:
    for name, ref in saved.items():
        tensor = own.get(name)
        if isinstance(ref, TensorRef) and isinstance(tensor, torch.Tensor):
            yield ref, tensor


def _without_values(ref: TensorRef) -> torch.Tensor:
    return torch.empty_strided(ref.shape, ref.stride, dtype=ref.dtype, device="meta")


def _model(training: Training) -> torch.nn.Module:
    if training.model is None:
        raise ValueError("in place one loads into a model")
    return training.model
