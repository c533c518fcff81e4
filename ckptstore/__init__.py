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
    from ckptstore.hashing import ExperimentHashGenerator, SampleSet
    from ckptstore.ledgers import GLOBAL_LEDGER
    from ckptstore.manager import CheckpointManagerV2
    from ckptstore.notices import CkptStoreWarning

__all__ = [
    "GLOBAL_LEDGER",
    "ByteRange",
    "CheckpointManagerV2",
    "CkptStoreError",
    "CkptStoreWarning",
    "ExperimentHashGenerator",
    "ObjectInfo",
    "SampleSet",
    "Store",
    "__version__",
    "doctor",
    "open_store",
]

_ON_FIRST_USE = {
    "CheckpointManagerV2": "ckptstore.manager",
    "CkptStoreWarning": "ckptstore.notices",
    "ExperimentHashGenerator": "ckptstore.hashing",
    "GLOBAL_LEDGER": "ckptstore.ledgers",
    "SampleSet": "ckptstore.hashing",
    "doctor": "ckptstore.checkup",
}


def __getattr__(name: str) -> Any:
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module 'ckptstore' has no attribute {name!r}")
    return getattr(import_module(_ON_FIRST_USE[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
