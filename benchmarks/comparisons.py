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
_SLOWEST = ("BytesIO + s3fs.pipe_file", *_THROUGH_TORCH)  # seconds for each GiB, and no bar; shown for 256 MiB
_NOT_SIGNED = ("raw socket", "raw sockets")
_NOT_OVER_LATENCY = (*_NOT_SIGNED, *_THROUGH_TORCH)
_THROUGH_MEMORY = ("BytesIO + boto3", "torch.save over s3fs.open", *_SLOWEST)
_WITHOUT_TLS = ("raw socket", "s3torchconnector", *_THROUGH_MEMORY)  # what is unsigned there is the payload
_MINUTES = ("torch DCP async_save to disk",)  # 18 s for 100 steps with saves of 5,000 tensors
_S3, _GCS, _DISK = ("s3 save", "s3 load"), ("gcs save", "gcs load"), ("disk save", "disk load")

FULL: tuple[Comparison, ...] = (
    *(Comparison(act, "1024", "stub", leave_out=_SLOWEST) for act in _S3),
    *(Comparison(act, shape, "stub") for act in _S3 for shape in ("256", "16", "small")),
    Comparison("s3 save", "1024", "stub discarding", leave_out=_THROUGH_MEMORY),
    Comparison("s3 save", "1024", "stub over TLS", leave_out=_WITHOUT_TLS),
    Comparison("s3 save", "4096", "stub discarding", leave_out=_THROUGH_MEMORY, rounds=QUICK_ROUNDS),
    *(Comparison(act, "256", "stub 20 ms", leave_out=_NOT_OVER_LATENCY) for act in _S3),
    Comparison("s3 tensor", "4096 in 1024", "stub 20 ms"),
    *(Comparison(act, "256", "seaweedfs", leave_out=(*_NOT_SIGNED, *_THROUGH_TORCH)) for act in _S3),
    *(Comparison(act, "256", "gcs emulator") for act in _GCS),
    *(Comparison(act, shape, "disk") for act in _DISK for shape in ("1024", "16", "small")),
    Comparison("train", "256 in 1", "disk", baseline="no saving"),
    Comparison("train", "small", "disk", baseline="no saving", leave_out=_MINUTES),
)

QUICK: tuple[Comparison, ...] = tuple(
    Comparison(act, "64", service, rounds=QUICK_ROUNDS, leave_out=_THROUGH_TORCH)
    for act, service in (("s3 save", "stub"), ("s3 load", "stub"), ("disk save", "disk"), ("disk load", "disk"))
)


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
