"""Keep every checkpoint of an ML experiment next to the proof of what produced it.

Names that need torch are imported on first use, so that ``import ckptstore`` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ckptstore._version import __version__
from ckptstore.errors import CkptStoreError
from ckptstore.store import ByteRange, ObjectInfo, Store, open_store

if TYPE_CHECKING:
    from ckptstore.checkup import doctor
    from ckptstore.comparing import (
        CheckpointDiff,
        ExperimentDiff,
        compare_checkpoints,
        compare_experiments,
        lineage,
        why,
    )
    from ckptstore.compression import CompressReport, compress, decompress
    from ckptstore.experiment import Experiment
    from ckptstore.exporting import ExportReport, export_checkpoint
    from ckptstore.hashing import ExperimentHashGenerator, SampleSet
    from ckptstore.importing import ImportReport, import_checkpoints
    from ckptstore.ledgers import GLOBAL_LEDGER
    from ckptstore.manager import CheckpointManagerV2
    from ckptstore.mirroring import MirrorReport, mirror
    from ckptstore.notices import CkptStoreWarning
    from ckptstore.retention import (
        Best,
        EverySteps,
        ExperimentsReport,
        GarbageReport,
        Latest,
        Pinned,
        PruneReport,
        WithinAge,
        collect_garbage,
        prune,
        prune_experiments,
    )
    from ckptstore.verifying import VerifyReport, verify

__all__ = [
    "GLOBAL_LEDGER",
    "Best",
    "ByteRange",
    "CheckpointDiff",
    "CheckpointManagerV2",
    "CkptStoreError",
    "CkptStoreWarning",
    "CompressReport",
    "EverySteps",
    "Experiment",
    "ExperimentDiff",
    "ExperimentHashGenerator",
    "ExperimentsReport",
    "ExportReport",
    "GarbageReport",
    "ImportReport",
    "Latest",
    "MirrorReport",
    "ObjectInfo",
    "Pinned",
    "PruneReport",
    "SampleSet",
    "Store",
    "VerifyReport",
    "WithinAge",
    "__version__",
    "collect_garbage",
    "compare_checkpoints",
    "compare_experiments",
    "compress",
    "decompress",
    "doctor",
    "export_checkpoint",
    "import_checkpoints",
    "lineage",
    "mirror",
    "open_store",
    "prune",
    "prune_experiments",
    "verify",
    "why",
]

_ON_FIRST_USE = {
    "Best": "ckptstore.retention",
    "CheckpointDiff": "ckptstore.comparing",
    "CheckpointManagerV2": "ckptstore.manager",
    "CkptStoreWarning": "ckptstore.notices",
    "CompressReport": "ckptstore.compression",
    "EverySteps": "ckptstore.retention",
    "Experiment": "ckptstore.experiment",
    "ExperimentDiff": "ckptstore.comparing",
    "ExperimentHashGenerator": "ckptstore.hashing",
    "ExperimentsReport": "ckptstore.retention",
    "ExportReport": "ckptstore.exporting",
    "GLOBAL_LEDGER": "ckptstore.ledgers",
    "GarbageReport": "ckptstore.retention",
    "ImportReport": "ckptstore.importing",
    "Latest": "ckptstore.retention",
    "MirrorReport": "ckptstore.mirroring",
    "Pinned": "ckptstore.retention",
    "PruneReport": "ckptstore.retention",
    "SampleSet": "ckptstore.hashing",
    "VerifyReport": "ckptstore.verifying",
    "WithinAge": "ckptstore.retention",
    "collect_garbage": "ckptstore.retention",
    "compare_checkpoints": "ckptstore.comparing",
    "compare_experiments": "ckptstore.comparing",
    "compress": "ckptstore.compression",
    "decompress": "ckptstore.compression",
    "doctor": "ckptstore.checkup",
    "export_checkpoint": "ckptstore.exporting",
    "import_checkpoints": "ckptstore.importing",
    "lineage": "ckptstore.comparing",
    "mirror": "ckptstore.mirroring",
    "prune": "ckptstore.retention",
    "prune_experiments": "ckptstore.retention",
    "verify": "ckptstore.verifying",
    "why": "ckptstore.comparing",
}


def __getattr__(name: str) -> Any:
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module 'ckptstore' has no attribute {name!r}")
    return getattr(import_module(_ON_FIRST_USE[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
