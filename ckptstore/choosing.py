"""Choose a checkpoint, and learn what it holds."""

from __future__ import annotations

from ckptstore.archive.content import Foresight, brief
from ckptstore.archive.index import Index, read_index
from ckptstore.checkpoints import CheckpointRecord
from ckptstore.errors import CheckpointNotFound
from ckptstore.experiment import Experiment
from ckptstore.keys import check_step

__all__ = ["choose_step", "index_of"]

_SHOWN_STEPS = 20


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


def index_of(experiment: Experiment, record: CheckpointRecord, *, foresight: Foresight = brief) -> Index:
    """Return what a checkpoint holds, without its tensors' bytes.

    Raises:
        CorruptCheckpoint: its index is damaged.
        KeyNotFound, ObjectChanged: deleted or replaced since it was listed; one that was compressed is still read.
    """
    return experiment.in_either_form(
        record,
        lambda form: read_index(experiment.store, form.info.key, info=form.info, foresight=foresight),
    )
