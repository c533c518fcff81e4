"""What the shell completes: folders, and the hashes and steps of a store on this machine. It asks no network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import typer

from ckptstore import keys
from ckptstore.cli.addresses import STORE_VARIABLE, WrongUse, nearby_store, parse_address

__all__ = ["complete_word"]

_MOST = 200


def complete_word(context: typer.Context, incomplete: str) -> list[str]:
    """Return the words that begin as typed: hashes, or after ``@`` steps, and folders."""
    try:
        found = [*_addresses(_root(context), incomplete), *_folders(incomplete)]
    except (OSError, WrongUse):
        found = list(_folders(incomplete))
    return found[:_MOST]


def _root(context: typer.Context) -> Path:
    words = context.params.get("words") or []
    named = words[0] if words and parse_address(words[0]) is None else context.params.get("store")
    place = named or os.environ.get(STORE_VARIABLE)
    return Path(place).expanduser() if place else nearby_store(Path.cwd())


def _addresses(root: Path, incomplete: str) -> Iterator[str]:
    digits, at, step = incomplete.partition("@")
    for folder in sorted((root / "checkpoints").iterdir()):
        if keys.hash_of_prefix(f"{keys.CHECKPOINTS}{folder.name}/") and folder.name.startswith(digits):
            yield from _steps(folder, at, step) if at else [folder.name]


def _steps(folder: Path, at: str, step: str) -> Iterator[str]:
    names = (f"{keys.CHECKPOINTS}{folder.name}/model/{path.name}" for path in (folder / "model").iterdir())
    parsed = (keys.parse_key(name) for name in names)
    for number in sorted({key.step for key in parsed if key is not None and key.step is not None}):
        if str(number).startswith(step):
            yield f"{folder.name}{at}{number}"


def _folders(incomplete: str) -> Iterator[str]:
    parent, slash, name = incomplete.rpartition("/")
    for path in sorted(Path(parent or slash or ".").glob("*/")) if "://" not in incomplete else ():
        if path.name.startswith(name) and not path.name.startswith("."):
            yield f"{parent}{slash}{path.name}/"
