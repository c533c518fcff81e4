"""Compare two checkpoints tensor by tensor: from their indexes alone, or down to the numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ckptstore.comparing.headers import facts
from ckptstore.comparing.values import ValueChange, changes_between
from ckptstore.progress import Progress, Silent

if TYPE_CHECKING:
    import torch

    from ckptstore.view import CheckpointView, TensorInfo

__all__ = ["CheckpointDiff", "Distance", "TensorChange", "Verdict", "compare_checkpoints"]

Verdict: TypeAlias = Literal["same", "changed", "reshaped", "retyped", "added", "removed"]

_SILENT = Silent()
_BLOCK = 4 * 1024 * 1024  # elements compared at a time: what is needed besides the two tensors stays below 100 MB


@dataclass(frozen=True, slots=True)
class Distance:
    """How far apart the numbers of two tensors of one shape are.

    Attributes:
        max_abs: the largest absolute change; infinite or NaN where such a value came or went.
        mean_abs: the mean absolute change.
        changed: how many elements differ.
        elements: of how many.
    """

    max_abs: float
    mean_abs: float
    changed: int
    elements: int


@dataclass(frozen=True, slots=True)
class TensorChange:
    """What became of one tensor.

    Attributes:
        name: in the model's state dict.
        verdict: "same", "changed", "reshaped", "retyped", "added" or "removed". Without a deep comparison "same"
            means the same layout over a record of the same length and CRC32. "changed" means that this record
            differs: one that several tensors share speaks for all of them.
        old: what is known of it before; None where it was added.
        new: what is known of it after; None where it was removed.
        distance: of a deep comparison; None where shapes differ, or the dtype has no arithmetic.
    """

    name: str
    verdict: Verdict
    old: TensorInfo | None
    new: TensorInfo | None
    distance: Distance | None = None


@dataclass(frozen=True, slots=True)
class CheckpointDiff:
    """What differs between two checkpoints.

    Attributes:
        same_content: the whole files hold the same content, by their digests.
        deep: whether tensors were read.
        tensors: every tensor of either, in the order of the first, then what only the second has.
        header: what differs in step, metadata, config in effect and the options of the optimizer.
    """

    same_content: bool
    deep: bool
    tensors: tuple[TensorChange, ...]
    header: tuple[ValueChange, ...]

    def count(self, verdict: Verdict) -> int:
        """Return how many tensors have that verdict."""
        return sum(change.verdict == verdict for change in self.tensors)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, for JSON."""
        return {
            "same_content": self.same_content,
            "deep": self.deep,
            "tensors": [_tensor_as_dict(change) for change in self.tensors],
            "header": [
                {"path": change.path, "change": change.change, "old": change.old, "new": change.new}
                for change in self.header
            ],
        }


def compare_checkpoints(
    old: CheckpointView, new: CheckpointView, *, deep: bool = False, progress: Progress = _SILENT
) -> CheckpointDiff:
    """Return what differs between two checkpoints, which may lie in different stores.

    Without ``deep`` no request is made: what opening the views has read says it all, and only very probably where
    CRCs are equal. With it every tensor that both have in one shape is read and compared as float64, two tensors in
    memory at a time; the verdicts "same" (equal numbers, NaN equal to NaN) and "changed" are then certain.

    Args:
        old: the first.
        new: the second.
        deep: read the tensors.
        progress: told of the bytes read.

    Raises:
        CorruptCheckpoint: with deep, a tensor's bytes are not what was written.
        ObjectChanged: with deep, a checkpoint was replaced since it was opened.
    """
    names = [*old, *(name for name in new if name not in old)]
    tensors = [_judged(name, old, new) for name in names]
    if deep:
        progress.expect(size_bytes=sum(map(_bytes_to_read, tensors)), objects=sum(map(_is_comparable, tensors)))
        tensors = [_measured(change, old, new, progress) for change in tensors]
    return CheckpointDiff(
        old.digest == new.digest, deep, tuple(tensors), tuple(changes_between(facts(old.header), facts(new.header)))
    )


def _judged(name: str, old: CheckpointView, new: CheckpointView) -> TensorChange:
    if name not in new:
        return TensorChange(name, "removed", old.info(name), None)
    if name not in old:
        return TensorChange(name, "added", None, new.info(name))
    before, after = old.info(name), new.info(name)
    return TensorChange(name, _verdict(before, after), before, after)


def _verdict(old: TensorInfo, new: TensorInfo) -> Verdict:
    if old.shape != new.shape:
        return "reshaped"
    if old.dtype != new.dtype:
        return "retyped"
    return "same" if old == new else "changed"


def _is_comparable(change: TensorChange) -> bool:
    return change.verdict in {"same", "changed", "retyped"}


def _bytes_to_read(change: TensorChange) -> int:
    if change.old is None or change.new is None or not _is_comparable(change):
        return 0
    return change.old.size_bytes + change.new.size_bytes


def _measured(change: TensorChange, old: CheckpointView, new: CheckpointView, progress: Progress) -> TensorChange:
    if not _is_comparable(change):
        return change
    progress.describe(change.name)
    before, after = old[change.name], new[change.name]
    progress.advance(size_bytes=_bytes_to_read(change), objects=1)
    distance = _distance(before, after)
    if change.verdict == "retyped":
        return TensorChange(change.name, "retyped", change.old, change.new, distance)
    same = _same_bytes(before, after) if distance is None else distance.changed == 0
    return TensorChange(change.name, "same" if same else "changed", change.old, change.new, distance)


def _distance(old: torch.Tensor, new: torch.Tensor) -> Distance | None:
    largest, total, changed = 0.0, 0.0, 0
    try:
        for before, after, same in _blocks(old, new):
            gap = (after - before).abs()
            gap[same] = 0  # infinity less infinity is NaN
            largest = _larger(largest, float(gap.max()))
            total += float(gap.sum())
            changed += int((~same).sum())
    except (NotImplementedError, RuntimeError):  # packed dtypes, which torch neither converts nor compares
        return None
    elements = old.numel()
    return Distance(largest, total / elements if elements else 0.0, changed, elements)


def _blocks(old: torch.Tensor, new: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield some elements of both as float64 or complex128, and which of them are equal."""
    import torch  # not above: what compares experiments does without it, and starts at once

    flat = old.reshape(-1), new.reshape(-1)
    wide = torch.complex128 if old.is_complex() or new.is_complex() else torch.float64
    exact = old.dtype == new.dtype and not (old.is_floating_point() or old.is_complex())
    for start in range(0, old.numel(), _BLOCK):
        narrow = [part[start : start + _BLOCK] for part in flat]
        before, after = (part.to(wide) for part in narrow)
        if exact:  # float64 cannot tell large integers apart
            yield before, after, narrow[0] == narrow[1]
        else:
            yield before, after, (before == after) | (before.isnan() & after.isnan())


def _larger(one: float, other: float) -> float:
    return math.nan if math.isnan(one) or math.isnan(other) else max(one, other)


def _same_bytes(old: torch.Tensor, new: torch.Tensor) -> bool:
    import torch

    one, other = (tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (old, new))
    return torch.equal(one, other)


def _tensor_as_dict(change: TensorChange) -> dict[str, Any]:
    distance = change.distance
    return {
        "name": change.name,
        "verdict": change.verdict,
        "old": _info_as_dict(change.old),
        "new": _info_as_dict(change.new),
        "distance": distance
        and {
            "max_abs": distance.max_abs,
            "mean_abs": distance.mean_abs,
            "changed": distance.changed,
            "elements": distance.elements,
        },
    }


def _info_as_dict(info: TensorInfo | None) -> dict[str, Any] | None:
    if info is None:
        return None
    return {
        "shape": list(info.shape),
        "dtype": _dtype(info.dtype),
        "size_bytes": info.size_bytes,
        "crc32": f"{info.crc32:08x}",
    }


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
