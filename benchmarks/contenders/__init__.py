"""The contenders by name."""

from __future__ import annotations

from benchmarks.contenders import disk, gcs, s3, training
from benchmarks.contenders.contender import Contender, Setup

__all__ = ["CONTENDERS", "Contender", "Setup"]

CONTENDERS: dict[str, type[Contender]] = {**s3.CONTENDERS, **disk.CONTENDERS, **gcs.CONTENDERS, **training.CONTENDERS}
