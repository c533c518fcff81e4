"""What a listing and the experiment's record say is wrong; no other byte is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from ckptstore import keys
from ckptstore.clock import PROBE_PREFIX
from ckptstore.keys import Kind, ParsedKey
from ckptstore.provenance import Provenance
from ckptstore.store import ObjectInfo, Upload
from ckptstore.verifying.report import Finding

__all__ = ["ABANDONED_AFTER", "dangling_finding", "outside_finding", "structural_findings", "upload_finding"]

ABANDONED_AFTER = timedelta(days=1)


def structural_findings(exp_hash: str, objects: Sequence[ObjectInfo], record: Provenance | None) -> Iterator[Finding]:
    """Yield what is missing, orphaned or not ours in one experiment.

    Args:
        exp_hash: the experiment.
        objects: all that lie under it.
        record: its record, None where there is none or it cannot be read.
    """
    ours: dict[str, ParsedKey] = {}
    for info in objects:
        parsed = keys.parse_key(info.key)
        if parsed is None:
            yield _of(info, "foreign", "ckptstore did not write it; it is left alone")
        else:
            ours[info.key] = parsed
    if ours:
        yield from _missing_record(exp_hash, ours)
        yield from _missing_companions(exp_hash, ours, record)
        yield from _orphans(objects, ours)


def outside_finding(info: ObjectInfo) -> Finding:
    """Return what to say of an object under ``checkpoints/`` that lies in no experiment."""
    if info.key.startswith(PROBE_PREFIX):
        return _of(info, "leftover", "a killed process left it; collect_garbage removes it")
    return _of(info, "foreign", "ckptstore did not write it; it is left alone")


def dangling_finding(exp_hash: str, parent: str) -> Finding:
    """Return what to say of an experiment that came out of one which has no record in the store."""
    detail = f"it came out of {parent}, whose record is not in this store"
    return Finding("dangling", keys.provenance_key(exp_hash), detail)


def upload_finding(upload: Upload, now: datetime) -> Finding:
    """Return what to say of an unfinished upload."""
    hours = (now - upload.started).total_seconds() / 3600
    state = "abandoned" if now - upload.started > ABANDONED_AFTER else "perhaps in progress"
    return Finding("unfinished", upload.key, f"an upload that began {max(0.0, hours):.1f} h ago, {state}")


def _missing_record(exp_hash: str, ours: Mapping[str, ParsedKey]) -> Iterator[Finding]:
    key = keys.provenance_key(exp_hash)
    if key in ours:
        return
    checkpoints = sum(parsed.step is not None for parsed in ours.values())
    if checkpoints:
        noun = "checkpoint" if checkpoints == 1 else "checkpoints"
        yield Finding("missing", key, f"its record is missing, beside {checkpoints} {noun}")
    else:
        yield Finding("hollow", key, "the experiment has neither a record nor a checkpoint")


def _missing_companions(exp_hash: str, ours: Mapping[str, ParsedKey], record: Provenance | None) -> Iterator[Finding]:
    skeleton, text = keys.architecture_key(exp_hash), keys.architecture_text_key(exp_hash)
    for key, other in ((skeleton, text), (text, skeleton)):
        if key not in ours and other in ours:
            yield Finding("missing", key, f"{keys.file_name(other)} is there without it")
    config = keys.config_key(exp_hash)
    if record is not None and record.components["config"] is not None and config not in ours:
        yield Finding("missing", config, "the record says that the experiment has a config")
    for key, parsed in ours.items():
        digest = keys.backup_digest_key(key)
        if record is not None and parsed.kind is Kind.BACKUP and digest not in ours:
            yield Finding("missing", digest, f"{keys.file_name(key)} is there without its checksum")


def _orphans(objects: Sequence[ObjectInfo], ours: Mapping[str, ParsedKey]) -> Iterator[Finding]:
    for info in objects:
        parsed = ours.get(info.key)
        if parsed is None:
            continue
        if parsed.kind is Kind.BACKUP_DIGEST and info.key.removesuffix(".sha256") not in ours:
            yield _of(info, "orphaned", "the checksum of a backup that is not there")
        if parsed.kind is Kind.COMPRESSED_CHECKPOINT and info.key.removesuffix(keys.COMPRESSED) in ours:
            yield _of(info, "leftover", "its .pt lies beside it and is the one that is read")


def _of(info: ObjectInfo, kind: str, detail: str) -> Finding:
    return Finding(kind, info.key, detail, info.size_bytes)  # type: ignore[arg-type]  # a literal at every call
