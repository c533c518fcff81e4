"""Verify what a store holds, byte by byte, and repair it from another store."""

from __future__ import annotations

from ckptstore.verifying.report import ExperimentFindings, Finding, VerifyReport
from ckptstore.verifying.verification import verify

__all__ = ["ExperimentFindings", "Finding", "VerifyReport", "verify"]
