"""Small files in the user's cache folder: a mapping each, replaced whole, and ignored when damaged.

Any number of processes may use them. Whoever writes last wins, and the others lose nothing but what they had
remembered: every entry can be had again from where it came.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["cache_folder", "read_cache", "write_cache"]

MAX_FOLDER_BYTES = 64 * 1024 * 1024
"""What one kind of files may take in all; beyond it those that were not written for longest go."""


def cache_folder() -> Path | None:
    """Return where ckptstore keeps what it can have again: ``CKPTSTORE_CACHE``, or below ``XDG_CACHE_HOME``.

    Without either it is ``~/.cache/ckptstore``; None where the user has no home.
    """
    if own := os.environ.get("CKPTSTORE_CACHE"):
        return Path(own)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "ckptstore"
    try:
        return Path.home() / ".cache" / "ckptstore"
    except RuntimeError:
        return None


def read_cache(path: Path) -> dict[str, Any]:
    """Return what a file holds; nothing where it is missing, unreadable or damaged."""
    try:
        seal, _, body = path.read_bytes().partition(b"\n")
        held = json.loads(body) if seal == _seal(body) else {}
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}


def write_cache(path: Path, held: Mapping[str, Any]) -> None:
    """Replace a file; where that cannot be done, nothing is written and nobody is told."""
    body = json.dumps(held, separators=(",", ":")).encode()
    draft = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            draft.write_bytes(_seal(body) + b"\n" + body)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        _bound(path.parent)


def _bound(folder: Path) -> None:
    files = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            found = path.stat()
            files.append((found.st_mtime, found.st_size, path))
    total = sum(size_bytes for _, size_bytes, _ in files)
    for _, size_bytes, path in sorted(files):
        if total <= MAX_FOLDER_BYTES:
            return
        path.unlink(missing_ok=True)
        total -= size_bytes


def _seal(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()
