"""The experiment's record: what its hash was made of, when, by what, and out of which experiment."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ckptstore._version import __version__
from ckptstore.errors import CorruptCheckpoint, NewerFormat

RECORD_FORMAT = 1
COMPONENTS = ("model", "config", "data")
_NAMED_MODULES = 3


def current_versions() -> dict[str, str]:
    """Return the versions of ckptstore, torch and Python that run."""
    import torch

    return {"ckptstore": __version__, "torch": str(torch.__version__), "python": platform.python_version()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """The record of one experiment.

    Attributes:
        exp_hash: the experiment.
        scheme: version of the hashing scheme.
        components: digest of each of "model", "config" and "data"; None for one that was never given.
        sample_count: number of active samples, None where they were never given.
        ignored_keys: config keys that the hash leaves out.
        parent: the experiment this one came out of.
        created_at: UTC, ISO 8601.
        versions: of ckptstore, torch and Python.
        git_commit: of the repository around the working directory.
        modules: digest by module path, so that a difference can name the layer.
        sources: by class, whether its source counted.
    """

    exp_hash: str
    scheme: int
    components: Mapping[str, str | None]
    sample_count: int | None = None
    ignored_keys: tuple[str, ...] = ()
    parent: str | None = None
    created_at: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    modules: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, bool] = field(default_factory=dict)

    def as_mapping(self) -> dict[str, Any]:
        """Return the record in the plain form that its file stores."""
        return {
            "format": RECORD_FORMAT,
            "exp_hash": self.exp_hash,
            "scheme": self.scheme,
            "created_at": self.created_at,
            "parent": self.parent,
            "components": dict(self.components),
            "sample_count": self.sample_count,
            "ignored_keys": list(self.ignored_keys),
            "versions": dict(self.versions),
            "git_commit": self.git_commit,
            "sources": dict(self.sources),
            "modules": dict(self.modules),
        }


def parse_provenance(record: object, where: str) -> Provenance:
    """Return the record that a file's plain form says.

    Raises:
        NewerFormat: a newer version of ckptstore wrote it.
        CorruptCheckpoint: it is no such record.
    """
    if not isinstance(record, dict) or not isinstance(record.get("format"), int):
        raise CorruptCheckpoint(f"{where} is not a provenance record")
    if record["format"] > RECORD_FORMAT:
        raise NewerFormat(f"{where} has format {record['format']}, this is for {RECORD_FORMAT}; upgrade ckptstore")
    known = {name: value for name, value in record.items() if name in Provenance.__slots__ and value is not None}
    try:
        for name in ("components", "versions", "modules", "sources"):
            known[name] = dict(known.get(name, {}))
        known["components"] = {name: known["components"].get(name) for name in COMPONENTS}
        known["ignored_keys"] = tuple(known.get("ignored_keys", ()))
        return Provenance(**known)
    except (TypeError, ValueError) as error:
        raise CorruptCheckpoint(f"{where} is not a provenance record: {error}") from None


def changed_components(old: Provenance, new: Provenance) -> tuple[str, ...]:
    """Return which of "model", "config" and "data" differ, in this order."""
    return tuple(name for name in COMPONENTS if old.components[name] != new.components[name])


def describe_change(old: Provenance, new: Provenance) -> str:
    """Return one phrase on what made one experiment's hash differ from another's."""
    changed = changed_components(old, new)
    if not changed:
        return "nothing but the hashing scheme" if old.scheme != new.scheme else "nothing"
    return "; ".join(_describe(name, old, new) for name in changed)


def _describe(component: str, old: Provenance, new: Provenance) -> str:
    if old.components[component] is None or new.components[component] is None:
        return f"{component} ({'added' if old.components[component] is None else 'left out'})"
    if component == "model" and (paths := list(_changed_modules(old, new))):
        rest = f" and {len(paths) - _NAMED_MODULES} more" if len(paths) > _NAMED_MODULES else ""
        return f"model (in {', '.join(paths[:_NAMED_MODULES])}{rest})"
    if component == "data":
        return f"data ({old.sample_count} -> {new.sample_count} samples)"
    return component


def _changed_modules(old: Provenance, new: Provenance) -> Iterator[str]:
    for path in dict.fromkeys([*old.modules, *new.modules]):
        if old.modules.get(path) != new.modules.get(path):
            yield path or "the root"


def current_time() -> str:
    """Return the time, UTC, as ISO 8601 text."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def git_commit(folder: Path | None = None) -> str | None:
    """Return the commit checked out in the repository around a folder, read from its files; None without one.

    Args:
        folder: by default the working directory.
    """
    try:
        start = folder or Path.cwd()
        for folder in (start, *start.parents):
            if (folder / ".git").exists():
                return _head_commit(folder / ".git")
    except (OSError, UnicodeDecodeError):
        return None
    return None


def _head_commit(dot_git: Path) -> str | None:
    git_dir = dot_git
    if dot_git.is_file():  # a worktree or submodule: "gitdir: PATH"
        git_dir = (dot_git.parent / dot_git.read_text().removeprefix("gitdir:").strip()).resolve()
    head = (git_dir / "HEAD").read_text().strip()
    if not head.startswith("ref:"):
        return head
    shared = git_dir / "commondir"
    common = (git_dir / shared.read_text().strip()).resolve() if shared.exists() else git_dir
    return _ref_commit(common, head.removeprefix("ref:").strip())


def _ref_commit(common: Path, ref: str) -> str | None:
    if (common / ref).is_file():
        return (common / ref).read_text().strip()
    packed = common / "packed-refs"
    lines = packed.read_text().splitlines() if packed.is_file() else []
    return next((line.split()[0] for line in lines if line.endswith(" " + ref)), None)
