"""Which number of a checkpoint's metadata tells how good it is, and where it was best."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ckptstore.metrics import numbers_in

__all__ = ["Best", "Metric", "Mode", "best_of", "chosen_metric", "parsed_metric"]

Mode: TypeAlias = Literal["min", "max"]

_LOWER = frozenset({"loss", "error", "err", "perplexity", "ppl", "nll", "mse", "rmse", "mae", "wer", "cer", "fid",
                    "bpb", "bpc", "divergence", "kl"})  # fmt: skip
_HIGHER = frozenset({"accuracy", "acc", "f1", "auc", "auroc", "ap", "map", "precision", "recall", "score", "bleu",
                     "rouge", "iou", "miou", "dice", "psnr", "ssim", "reward", "r2", "top1", "top5"})  # fmt: skip
_HELD_OUT = frozenset({"val", "valid", "validation", "test", "eval", "held", "holdout", "heldout", "dev"})
_TRAINING = frozenset({"train", "training", "batch"})


@dataclass(frozen=True, slots=True)
class Metric:
    """A number in the metadata and which way is better.

    Attributes:
        name: its key; with dots where it is nested.
        mode: "min" or "max".
    """

    name: str
    mode: Mode


@dataclass(frozen=True, slots=True)
class Best:
    """The best value of a metric.

    Attributes:
        metric: its name.
        mode: "min" or "max".
        value: a finite number.
        step: the highest that has it.
    """

    metric: str
    mode: Mode
    value: float
    step: int


def parsed_metric(text: str) -> Metric:
    """Return the metric that ``NAME`` or ``NAME:min`` or ``NAME:max`` says; a bare name has to tell its direction.

    Raises:
        ValueError: it does not.
    """
    name, colon, mode = text.rpartition(":")
    if colon and mode in ("min", "max"):
        return Metric(name, "min" if mode == "min" else "max")
    known = _mode_of(text)
    if known is None:
        raise ValueError(f"whether {text!r} is better low or high is not known; write {text}:min or {text}:max")
    return Metric(text, known)


def chosen_metric(metadata: Iterable[Mapping[str, Any]]) -> Metric | None:
    """Return the metric to judge by: the first whose name tells its direction.

    One measured on held-out data goes before others, one of training last, and a score before a loss, which is
    most often that of the last batch.
    """
    names = dict.fromkeys(name for mapping in metadata for name in numbers_in(mapping))
    known = [Metric(name, mode) for name in names if (mode := _mode_of(name))]
    return min(known, key=_rank, default=None)


def _rank(metric: Metric) -> tuple[bool, bool, bool]:
    words = _words(metric.name)
    return not _HELD_OUT & words, bool(_TRAINING & words), metric.mode == "min"


def best_of(found: Sequence[tuple[int, Mapping[str, Any]]], metric: Metric | None = None) -> Best | None:
    """Return the best checkpoint; None where no metadata has the metric as a number.

    Args:
        found: step and metadata of each checkpoint, by ascending step.
        metric: by default `chosen_metric`.
    """
    metric = metric or chosen_metric(metadata for _, metadata in found)
    if metric is None:
        return None
    sign = 1 if metric.mode == "min" else -1
    values = [(step, numbers_in(metadata).get(metric.name)) for step, metadata in found]
    ranked = [(sign * value, -step) for step, value in values if value is not None]
    if not ranked:
        return None
    value, step = min(ranked)
    return Best(metric.name, metric.mode, sign * value, -step)


def _mode_of(name: str) -> Mode | None:
    words = _words(name)
    if words & _LOWER:
        return "min"
    return "max" if words & _HIGHER else None


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-z]+[0-9]*", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()))
