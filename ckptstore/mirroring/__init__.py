"""Make a store hold what another one holds: experiments with their checkpoints, whole and in a safe order."""

from ckptstore.mirroring.report import Conflict, Failure, MirrorReport, Removed, Transferred
from ckptstore.mirroring.running import OnConflict, mirror

__all__ = ["Conflict", "Failure", "MirrorReport", "OnConflict", "Removed", "Transferred", "mirror"]
