"""Compare two checkpoints tensor by tensor: from their indexes alone, or down to the numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ckptstore.comparing.headers import facts
from ckptstore.comparing.values import ValueChange, changes_between, leaves
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
        name: in the model's state dict, or the path of one outside the model.
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
        other_tensors: every tensor outside the model, such as the state of the optimizer, named by its path:
            ``optimizer_state_dict.state[0].exp_avg``.
    """

    same_content: bool
    deep: bool
    tensors: tuple[TensorChange, ...]
    header: tuple[ValueChange, ...]
    other_tensors: tuple[TensorChange, ...] = ()

    def count(self, verdict: Verdict) -> int:
        """Return how many tensors of the model have that verdict."""
        return sum(change.verdict == verdict for change in self.tensors)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, for JSON."""
        return {
            "same_content": self.same_content,
            "deep": self.deep,
            "tensors": [_tensor_as_dict(change) for change in self.tensors],
            "other_tensors": [_tensor_as_dict(change) for change in self.other_tensors],
            "header": [
                {"path": change.path, "change": change.change, "old": change.old, "new": change.new}
                for change in self.header
            ],
        }


def compare_checkpoints(
    old: CheckpointView, new: CheckpointView, *, deep: bool = False, progress: Progress = _SILENT
) -> CheckpointDiff:
    """Return what differs between two checkpoints, which may lie in different stores.

    All tensors are compared: those of the model, and those of the optimizer's state and whatever else was saved.

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
    parts = [(_of_model(old), _of_model(new)), (_outside(old), _outside(new))]
    judged = [_all_judged(before, after) for before, after in parts]
    if deep:
        every = [change for changes in judged for change in changes]
        progress.expect(size_bytes=sum(map(_bytes_to_read, every)), objects=sum(map(_is_comparable, every)))
        judged = [
            [_measured(change, before, after, progress) for change in changes]
            for changes, (before, after) in zip(judged, parts, strict=True)
        ]
    return CheckpointDiff(
        same_content=old.digest == new.digest,
        deep=deep,
        tensors=tuple(judged[0]),
        header=tuple(changes_between(facts(old.header), facts(new.header))),
        other_tensors=tuple(judged[1]),
    )


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A tensor that is known and not read."""

    info: TensorInfo
    read: Callable[[], torch.Tensor]


def _of_model(view: CheckpointView) -> dict[str, _Tensor]:
    return {name: _Tensor(view.info(name), partial(view.__getitem__, name)) for name in view}


def _outside(view: CheckpointView) -> dict[str, _Tensor]:
    from ckptstore.archive import TensorRef

    found = ((path, value) for path, value in leaves(view.header) if isinstance(value, TensorRef))
    return {path: _Tensor(view.tensor_info(ref), partial(view.tensor, ref)) for path, ref in found}


def _all_judged(old: Mapping[str, _Tensor], new: Mapping[str, _Tensor]) -> list[TensorChange]:
    return [_judged(name, old.get(name), new.get(name)) for name in dict.fromkeys([*old, *new])]


def _judged(name: str, old: _Tensor | None, new: _Tensor | None) -> TensorChange:
    before, after = None if old is None else old.info, None if new is None else new.info
    if before is None or after is None:
        return TensorChange(name, "removed" if after is None else "added", before, after)
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


def _measured(
    change: TensorChange, old: Mapping[str, _Tensor], new: Mapping[str, _Tensor], progress: Progress
) -> TensorChange:
    if not _is_comparable(change):
        return change
    progress.describe(change.name)
    before, after = old[change.name].read(), new[change.name].read()
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
