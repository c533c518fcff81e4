"""Bring the checkpoints of the older, flat layout into experiments."""

from __future__ import annotations

from ckptstore.importing.importing import import_checkpoints
from ckptstore.importing.report import ImportOutcome, ImportReport

__all__ = ["ImportOutcome", "ImportReport", "import_checkpoints"]
