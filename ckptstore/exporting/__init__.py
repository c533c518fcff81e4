"""Write a checkpoint's tensors as other tools read them."""

from __future__ import annotations

from ckptstore.exporting.export import ExportReport, export_checkpoint

__all__ = ["ExportReport", "export_checkpoint"]
