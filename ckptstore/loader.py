"""What a checkpoint is loaded into, and by which way: by way of fresh memory, in place, or mapped."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from ckptstore import archive
from ckptstore.checkpoints import CheckpointRecord
from ckptstore.experiment import Experiment
from ckptstore.inplace import restore_in_place
from ckptstore.loading import MapLocation, Mmap, Reader, read_checkpoint
from ckptstore.restoring import restore
from ckptstore.saving import Training


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """How to load.

    Attributes:
        training: what to load into.
        strict: False accepts missing and unknown model entries and converts dtypes.
        map_location: device of the returned tensors, and of a model on the meta device.
        in_place: read straight into the tensors that are there; see `restore_in_place`.
        mmap: let the returned tensors be the file itself; see `read_checkpoint`.
    """

    training: Training
    strict: bool
    map_location: MapLocation
    in_place: bool
    mmap: Mmap

    def __post_init__(self) -> None:
        if self.in_place and self.mmap:
            raise ValueError("in_place=True reads into memory that is there, mmap=True into none; choose one")
        if self.in_place and self.training.model is None:
            raise ValueError("in_place=True loads into a model; give one, or register exactly one in the ledger")

    def reader(self, experiment: Experiment) -> Reader:
        """Return what reads a checkpoint of an experiment; in place, it restores the objects as well."""
        return partial(self._read, experiment)

    def restore(self, experiment: Experiment, record: CheckpointRecord, state: dict[str, Any]) -> None:
        """Restore the objects from what was read, where reading has not done so; raises as `restore`."""
        if not self.in_place:
            where = experiment.where(record.info.key)
            restore(self.training, state, where=where, strict=self.strict, device=self.map_location)

    def _read(
        self, experiment: Experiment, record: CheckpointRecord, index: archive.Index | None = None
    ) -> dict[str, Any]:
        if not self.in_place:
            return read_checkpoint(experiment, record, index=index, map_location=self.map_location, mmap=self.mmap)
        return restore_in_place(
            self.training, experiment, record, index=index, strict=self.strict, map_location=self.map_location
        )
