"""What the library promises of its speed, each beside the figure that was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

_OURS = "ckptstore"
_CPU = "cpu_seconds"
_LATENCY_S = 0.02
_RANGES = tuple(f"obstore, {size} MiB ranges" for size in (8, 16, 64))


class Record:
    """One comparison out of the results."""

    def __init__(self, kept: Mapping[str, Any]) -> None:
        self.size_bytes: int = kept["size_bytes"]
        self._outcomes = {
            outcome["contender"].removeprefix(f"{kept['act']}: "): outcome for outcome in kept["outcomes"]
        }

    def best(self, contender: str, figure: str = "seconds") -> float:
        """Return the least of a contender's figures.

        Raises:
            KeyError: the contender was not in the comparison.
        """
        return float(min(self._outcomes[contender][figure]))

    def highest(self, contender: str, figure: str) -> float:
        """Return the greatest of a contender's figures."""
        return float(max(self._outcomes[contender][figure]))


@dataclass(frozen=True, slots=True)
class Bar:
    """A limit of one figure of one comparison.

    Attributes:
        words: what is promised.
        comparison: name of the comparison that tells.
        kind: on which side of the limit the figure has to be.
        limit: the limit.
        figure: computes it.
        unit: of the figure.
    """

    words: str
    comparison: str
    kind: Literal["at most", "at least"]
    limit: float
    figure: Callable[[Record], float]
    unit: str = "x"

    def met(self, figure: float) -> bool:
        """Tell whether a figure is on the right side."""
        return figure <= self.limit if self.kind == "at most" else figure >= self.limit


def _times_of(*others: str, figure: str = "seconds") -> Callable[[Record], float]:
    return lambda record: record.best(_OURS, figure) / min(record.best(other, figure) for other in others)


def _faster_than(other: str) -> Callable[[Record], float]:
    return lambda record: record.best(other) / record.best(_OURS)


def _peak(record: Record) -> float:
    return record.highest(_OURS, "peak_mib") * 2**20 / record.size_bytes


def _round_trips(record: Record) -> float:
    return record.best(_OURS) / _LATENCY_S


def _added(record: Record) -> float:
    """What saving beside the training adds, of 1.5 times the copies and the CPU of the uploads."""
    without = record.best("no saving")
    copies = record.best("one memcpy for each save") - without
    uploads = record.best("uploads alone, to nowhere", _CPU)
    return (record.best("ckptstore, beside, discarded") - without) / (1.5 * copies + uploads)


_S3FS, _CONNECTOR = "over s3fs.open", "s3torchconnector"
_SAVE, _TLS, _LOAD = "s3 save / stub / 1024", "s3 save / stub over TLS / 1024", "s3 load / stub / 1024"
_DISK, _TENSOR = "disk save / disk / 1024", "s3 tensor / stub 20 ms / 4096 in 1024"
_LARGE, _SMALL = "train / disk / 256 in 1", "train / disk / small"
_LEAST = "obstore, ready bytes + CRC32"
_RAW = ("raw write + fsync", "raw O_DIRECT write + fsync")

BARS: tuple[Bar, ...] = (
    Bar("save to S3, of obstore with ready bytes + a CRC32", _SAVE, "at most", 1.15, _times_of(_LEAST)),
    Bar("the same over TLS, the payload unsigned", _TLS, "at most", 1.15, _times_of(_LEAST)),
    Bar(f"save, faster than torch.save {_S3FS}", _SAVE, "at least", 5, _faster_than(f"torch.save {_S3FS}")),
    Bar(f"save, faster than {_CONNECTOR}", _SAVE, "at least", 1.3, _faster_than(_CONNECTOR)),
    Bar("CPU of a save, of obstore's", _SAVE, "at most", 1.3, _times_of("obstore, ready bytes", figure=_CPU)),
    Bar("load and verify, of obstore's best ranges of 8, 16, 64 MiB", _LOAD, "at most", 1.3, _times_of(*_RANGES)),
    Bar(f"load, faster than {_CONNECTOR}", _LOAD, "at least", 2, _faster_than(_CONNECTOR)),
    Bar(f"load, faster than torch.load {_S3FS}", _LOAD, "at least", 2, _faster_than(f"torch.load {_S3FS}")),
    Bar("peak memory of a load, of the checkpoint", _LOAD, "at most", 1.15, _peak),
    Bar("durable save to disk, of a raw write + fsync through the cache", _DISK, "at most", 1.15, _times_of(_RAW[0])),
    Bar("the same, of the better of that and a raw write past the cache", _DISK, "at most", 1.15, _times_of(*_RAW)),
    Bar("durable save to disk, of torch.save without fsync", _DISK, "at most", 1, _times_of("torch.save")),
    Bar("one 4 MiB tensor of 4 GiB, 20 ms a request", _TENSOR, "at most", 5, _round_trips, " round trips"),
    Bar("100 steps, 10 saves of 256 MiB: added, of what is allowed", _LARGE, "at most", 1, _added),
    Bar("100 steps, 10 saves of 5,000 tensors: the same", _SMALL, "at most", 1, _added),
)


def table(comparisons: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield every bar as the lines of a Markdown table, those that were not measured too."""
    records = {kept["name"]: Record(kept) for kept in comparisons}
    yield "| | bar | measured | | comparison |"
    yield "|---|---:|---:|---|---|"
    for bar in BARS:
        measured, verdict = _judged(bar, records.get(bar.comparison))
        limit = f"{bar.kind} {bar.limit:g}{bar.unit}"
        yield f"| {bar.words} | {limit} | {measured} | {verdict} | {bar.comparison} |"


def _judged(bar: Bar, record: Record | None) -> tuple[str, str]:
    try:
        figure = None if record is None else bar.figure(record)
    except KeyError:  # the comparison was made when it had other contenders
        figure = None
    if figure is None:
        return "", "not measured"
    return f"{figure:.2f}{bar.unit}", "met" if bar.met(figure) else "**missed**"
