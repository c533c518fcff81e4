"""What is compared with what, and how often."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.contenders import CONTENDERS, Setup
from benchmarks.rounds import Outcome, take_turns
from benchmarks.services import running
from benchmarks.states import Shape, write_bytes

ROUNDS = 9
QUICK_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Comparison:
    """Contenders beside each other.

    Attributes:
        act: "s3 save", "disk load", ...: the beginning of the contenders' names.
        shape: of the state, see `Shape.named`.
        service: see `services.running`.
        baseline: what the others are measured by, a contender's name without the act.
        leave_out: contenders that this is not for.
        rounds: how often each is run.
    """

    act: str
    shape: str
    service: str
    baseline: str = "ckptstore"
    leave_out: tuple[str, ...] = ()
    rounds: int = ROUNDS

    @property
    def name(self) -> str:
        """Identifies it."""
        return f"{self.act} / {self.service} / {self.shape}"

    @property
    def title(self) -> str:
        """What it is called in a report."""
        return f"{self.act}, {Shape.named(self.shape).title}, {self.service}"

    @property
    def contenders(self) -> list[str]:
        """Full names, ours first."""
        return [
            name
            for name in CONTENDERS
            if name.startswith(f"{self.act}: ") and name.removeprefix(f"{self.act}: ") not in self.leave_out
        ]


_THROUGH_TORCH = ("torch DCP, FsspecWriter", "torch DCP, FsspecReader")
_NOT_OVER_LATENCY = ("raw socket", "raw sockets", *_THROUGH_TORCH)
_NOT_SIGNED = ("raw socket", "raw sockets")
_ONLY_FAST = (
    "BytesIO + boto3",
    "BytesIO + s3fs.pipe_file",
    "torch.save over s3fs.open",
    "torch DCP, FsspecWriter",
)

_WITHOUT_TLS = ("raw socket", "s3torchconnector", *_ONLY_FAST)  # what is unsigned there is the payload
FULL: tuple[Comparison, ...] = (
    *(Comparison(act, shape, "stub") for act in ("s3 save", "s3 load") for shape in ("1024", "256", "16", "small")),
    Comparison("s3 save", "1024", "stub discarding"),
    Comparison("s3 save", "1024", "stub over TLS", leave_out=_WITHOUT_TLS),
    Comparison("s3 save", "4096", "stub discarding", leave_out=_ONLY_FAST),
    *(
        Comparison(act, shape, "stub 20 ms", leave_out=_NOT_OVER_LATENCY)
        for act in ("s3 save", "s3 load")
        for shape in ("16", "256")
    ),
    Comparison("s3 tensor", "4096", "stub 20 ms", rounds=3),
    *(Comparison(act, "256", "seaweedfs", leave_out=_NOT_SIGNED) for act in ("s3 save", "s3 load")),
    *(Comparison(act, shape, "gcs emulator") for act in ("gcs save", "gcs load") for shape in ("16", "256")),
    *(
        Comparison(act, shape, "disk")
        for act in ("disk save", "disk load")
        for shape in ("1024", "256", "16", "small")
    ),
    *(Comparison("train", shape, "disk", baseline="no saving") for shape in ("256", "small")),
)
"""About half an hour on two cores."""

QUICK: tuple[Comparison, ...] = tuple(
    Comparison(act, "64", service, rounds=QUICK_ROUNDS, leave_out=_THROUGH_TORCH)
    for act, service in (("s3 save", "stub"), ("s3 load", "stub"), ("disk save", "disk"), ("disk load", "disk"))
)
"""Two minutes."""


def measure(comparison: Comparison) -> list[Outcome]:
    """Run one comparison, with servers, processes and files of its own."""
    with (
        _data(comparison.shape) as data,
        tempfile.TemporaryDirectory(dir=data.parent) as folder,
        running(comparison.service) as service,
    ):
        setups = [
            Setup(name, comparison.shape, str(data), folder, **asdict(service)) for name in comparison.contenders
        ]
        return take_turns(setups, comparison.rounds)


@contextmanager
def _data(shape: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bytes"
        write_bytes(path, Shape.named(shape))
        yield path


def with_rounds(comparison: Comparison, rounds: int) -> Comparison:
    """Return the comparison with another number of rounds."""
    return replace(comparison, rounds=rounds)


def chosen(comparisons: Sequence[Comparison], only: str) -> list[Comparison]:
    """Return those whose name holds a text."""
    return [comparison for comparison in comparisons if only in comparison.name]
