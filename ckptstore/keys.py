"""The key layout, both ways: the only module that builds or parses a key.

::

    data/                                                global data
    logs/                                                global logs
    checkpoints/{hash}/model/{hash}_step_{step:06d}.pt   and .pt.zst for a compressed one
    checkpoints/{hash}/model/{hash}_architecture.pkl     and .txt
    checkpoints/{hash}/hp/{hash}_{config_name}.yaml      "provenance" is the experiment's record
    checkpoints/{hash}/data/{hash}_{backup_name}.h5      and .h5.sha256
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from ckptstore.errors import InvalidName, InvalidStep

CHECKPOINTS = "checkpoints/"
DATA = "data/"
LOGS = "logs/"

COMPRESSED = ".zst"
"""Follows the key of a checkpoint that is compressed."""

PROVENANCE = "provenance"
"""The config name that is taken."""
UIDS = "uids"
"""The backup name that is taken: the active UIDs, where they are recorded."""

_HASH = re.compile(r"[0-9a-f]{16}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_KEY = re.compile(
    r"checkpoints/(?P<hash>[0-9a-f]{16})/(?:"
    r"model/(?P=hash)_(?:step_(?P<step>[0-9]{6,})\.pt(?P<zst>\.zst)?|architecture\.(?P<arch>pkl|txt))"
    r"|hp/(?P=hash)_(?P<config>[A-Za-z0-9][A-Za-z0-9._-]{0,127})\.yaml"
    r"|data/(?P=hash)_(?P<backup>[A-Za-z0-9][A-Za-z0-9._-]{0,127})\.h5(?P<sha256>\.sha256)?)"
)


class Kind(StrEnum):
    """What an object under `checkpoints/` is."""

    CHECKPOINT = "checkpoint"
    COMPRESSED_CHECKPOINT = "compressed checkpoint"
    ARCHITECTURE = "architecture"
    ARCHITECTURE_TEXT = "architecture text"
    CONFIG = "config"
    PROVENANCE = "provenance"
    BACKUP = "data backup"
    BACKUP_DIGEST = "data backup digest"


@dataclass(frozen=True, slots=True)
class ParsedKey:
    """A key of the layout, taken apart.

    Attributes:
        exp_hash: the experiment.
        kind: what the object is.
        step: of a checkpoint, else None.
        name: of a config or a data backup, else None.
    """

    exp_hash: str
    kind: Kind
    step: int | None = None
    name: str | None = None


def parse_key(key: str) -> ParsedKey | None:
    """Take a key apart; None for one that this layout would not have built."""
    found = _KEY.fullmatch(key)
    if found is None:
        return None
    exp_hash = found["hash"]
    if found["step"]:
        step = int(found["step"])
        kind = Kind.COMPRESSED_CHECKPOINT if found["zst"] else Kind.CHECKPOINT
        return ParsedKey(exp_hash, kind, step=step) if f"{step:06d}" == found["step"] else None
    if found["arch"]:
        return ParsedKey(exp_hash, Kind.ARCHITECTURE if found["arch"] == "pkl" else Kind.ARCHITECTURE_TEXT)
    if found["config"]:
        is_record = found["config"] == PROVENANCE
        return ParsedKey(exp_hash, Kind.PROVENANCE if is_record else Kind.CONFIG, name=found["config"])
    return ParsedKey(exp_hash, Kind.BACKUP_DIGEST if found["sha256"] else Kind.BACKUP, name=found["backup"])


def experiment_prefix(exp_hash: str) -> str:
    """Return the folder of an experiment."""
    return f"{CHECKPOINTS}{check_hash(exp_hash)}/"


def model_prefix(exp_hash: str) -> str:
    """Return the folder of an experiment's checkpoints and architecture."""
    return f"{experiment_prefix(exp_hash)}model/"


def config_prefix(exp_hash: str) -> str:
    """Return the folder of an experiment's configs and provenance."""
    return f"{experiment_prefix(exp_hash)}hp/"


def backup_prefix(exp_hash: str) -> str:
    """Return the folder of an experiment's data backups."""
    return f"{experiment_prefix(exp_hash)}data/"


def checkpoint_key(exp_hash: str, step: int) -> str:
    """Return the key of a checkpoint; steps wider than six digits get longer names."""
    return f"{model_prefix(exp_hash)}{exp_hash}_step_{check_step(step):06d}.pt"


def compressed_checkpoint_key(exp_hash: str, step: int) -> str:
    """Return the key of a compressed checkpoint."""
    return checkpoint_key(exp_hash, step) + COMPRESSED


def other_form(key: str) -> str:
    """Return the key of a checkpoint's compressed form, or the one that it is the compressed form of."""
    return key.removesuffix(COMPRESSED) if key.endswith(COMPRESSED) else key + COMPRESSED


def architecture_key(exp_hash: str) -> str:
    """Return the key of the model's skeleton."""
    return f"{model_prefix(exp_hash)}{exp_hash}_architecture.pkl"


def architecture_text_key(exp_hash: str) -> str:
    """Return the key of the model's printed form."""
    return f"{model_prefix(exp_hash)}{exp_hash}_architecture.txt"


def config_key(exp_hash: str, config_name: str = "config") -> str:
    """Return the key of a config."""
    return f"{config_prefix(exp_hash)}{exp_hash}_{check_name(config_name, 'config name', PROVENANCE)}.yaml"


def provenance_key(exp_hash: str) -> str:
    """Return the key of the experiment's record."""
    return f"{config_prefix(exp_hash)}{exp_hash}_{PROVENANCE}.yaml"


def backup_key(exp_hash: str, backup_name: str = "data") -> str:
    """Return the key of a data backup."""
    return f"{backup_prefix(exp_hash)}{exp_hash}_{check_name(backup_name, 'backup name', UIDS)}.h5"


def uids_key(exp_hash: str) -> str:
    """Return the key of the recorded active UIDs."""
    return f"{backup_prefix(exp_hash)}{exp_hash}_{UIDS}.h5"


def backup_digest_key(backup: str) -> str:
    """Return the key of the checksum that goes with a data backup's key."""
    return backup + ".sha256"


def file_name(key: str) -> str:
    """Return the last segment of a key."""
    return key.rpartition("/")[2]


def hash_of_prefix(prefix: str) -> str | None:
    """Return the experiment whose folder that prefix is, or None."""
    exp_hash = prefix.removeprefix(CHECKPOINTS).removesuffix("/")
    return exp_hash if _HASH.fullmatch(exp_hash) and prefix == experiment_prefix(exp_hash) else None


def hash_of_key(key: str) -> str | None:
    """Return the experiment in whose folder a key lies, whether it is one of ours or not; or None."""
    return hash_of_prefix("/".join(key.split("/", 2)[:2]) + "/")


def check_hash(exp_hash: str) -> str:
    """Return the hash if it is 16 lower-case hex digits.

    Raises:
        InvalidName: otherwise.
    """
    if not isinstance(exp_hash, str) or not _HASH.fullmatch(exp_hash):
        raise InvalidName(f"experiment hash {exp_hash!r} is not 16 lower-case hex digits")
    return exp_hash


def check_step(step: int) -> int:
    """Return the step if it is an int from 0 upwards (a bool is not).

    Raises:
        InvalidStep: otherwise.
    """
    if isinstance(step, bool) or not isinstance(step, int) or step < 0:
        raise InvalidStep(f"step {step!r} is not an int from 0 upwards; pass the training step, such as step=100")
    return step


def check_name(name: str, what: str, reserved: str) -> str:
    """Return the name if it can stand in a key.

    Raises:
        InvalidName: outside ``[A-Za-z0-9][A-Za-z0-9._-]*``, longer than 128 characters, or reserved.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidName(f"{what} {name!r} is not up to 128 of A-Z a-z 0-9 . _ - beginning with a letter or digit")
    if name == reserved:
        raise InvalidName(f"{what} {name!r} is reserved for ckptstore's own record; choose another")
    return name
