"""Compare two experiments: architecture by layer, config by path, samples by count and by UID."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ckptstore import keys
from ckptstore.companions import open_text
from ckptstore.comparing.modules import ModuleChange, module_changes, printed_modules
from ckptstore.comparing.samples import SampleChange, sample_change
from ckptstore.comparing.values import Change, changes_between
from ckptstore.errors import CheckpointNotFound, CorruptCheckpoint, KeyNotFound
from ckptstore.experiment import Experiment
from ckptstore.keys import Kind
from ckptstore.provenance import Provenance, changed_components

__all__ = ["ConfigChange", "ExperimentDiff", "compare_experiments"]


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """One config value that differs.

    Attributes:
        config_name: which config; "config" is the one that counts in the hash.
        path: such as ``optimizer.lr`` or ``layers[2]``.
        change: "added", "removed" or "changed".
        old: its value before; None where it was added.
        new: its value after; None where it was removed.
        counts: whether the hash takes it into account.
    """

    config_name: str
    path: str
    change: Change
    old: Any
    new: Any
    counts: bool

    def __str__(self) -> str:
        if self.change == "changed":
            return f"{self.path} {self.old} -> {self.new}"
        return f"{self.path} {self.change} ({self.new if self.change == 'added' else self.old})"


@dataclass(frozen=True, slots=True)
class ExperimentDiff:
    """What differs between two experiments.

    Attributes:
        old: hash of the first.
        new: hash of the second.
        components: which of "model", "config" and "data" have other digests.
        given: by component, whether the first and the second had it at all.
        schemes: versions of the hashing scheme of both.
        modules: what differs in the architecture.
        configs: what differs in the configs, ignored keys and configs outside the hash included.
        samples: what differs among the active samples; None where they are the same.
        problems: what could not be compared, and why.
    """

    old: str
    new: str
    components: tuple[str, ...]
    given: Mapping[str, tuple[bool, bool]]
    schemes: tuple[int, int]
    modules: tuple[ModuleChange, ...]
    configs: tuple[ConfigChange, ...]
    samples: SampleChange | None
    problems: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether nothing differs that the hash takes into account."""
        return self.old == self.new

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, for JSON."""
        return {
            "old": self.old,
            "new": self.new,
            "same": self.same,
            "components": list(self.components),
            "schemes": list(self.schemes),
            "modules": [asdict(change) for change in self.modules],
            "configs": [asdict(change) for change in self.configs],
            "samples": self.samples and self.samples.as_dict(),
            "problems": list(self.problems),
        }


def compare_experiments(old: Experiment, new: Experiment) -> ExperimentDiff:
    """Return what differs between two experiments, which may lie in different stores.

    A listing of configs and one read for each record, config and printed architecture; recorded UIDs are read
    where the samples differ. No checkpoint is read.

    Raises:
        CheckpointNotFound: an experiment has no record.
        CorruptCheckpoint: a record is damaged. Another damaged file is named in `ExperimentDiff.problems`.
    """
    before, after = old.provenance(), new.provenance()
    problems: list[str] = []
    return ExperimentDiff(
        old=old.exp_hash,
        new=new.exp_hash,
        components=changed_components(before, after),
        given={
            name: (before.components[name] is not None, after.components[name] is not None)
            for name in before.components
        },
        schemes=(before.scheme, after.scheme),
        modules=_modules(old, new, before, after),
        configs=tuple(_config_changes(old, new, before, after, problems)),
        samples=_samples(old, new, before, after, problems),
        problems=tuple(problems),
    )


def _modules(old: Experiment, new: Experiment, before: Provenance, after: Provenance) -> tuple[ModuleChange, ...]:
    if before.modules == after.modules:
        return ()
    return tuple(module_changes(before.modules, after.modules, _printed(old), _printed(new)))


def _printed(experiment: Experiment) -> dict[str, str]:
    key = keys.architecture_text_key(experiment.exp_hash)
    try:
        return printed_modules(open_text(experiment.store.get(key), experiment.where(key)))
    except (KeyNotFound, CorruptCheckpoint):  # it only makes the difference easier to read
        return {}


def _config_changes(
    old: Experiment, new: Experiment, before: Provenance, after: Provenance, problems: list[str]
) -> Iterator[ConfigChange]:
    ignored = {*before.ignored_keys, *after.ignored_keys}
    for name in sorted({*_config_names(old), *_config_names(new)}, key=lambda name: (name != "config", name)):
        try:
            found = list(changes_between(_config(old, name), _config(new, name)))
        except CorruptCheckpoint as error:
            problems.append(str(error))
            continue
        for change in found:
            counts = name == "config" and not any(_is_below(change.path, key) for key in ignored)
            yield ConfigChange(name, change.path, change.change, change.old, change.new, counts)


def _config_names(experiment: Experiment) -> set[str]:
    parsed = map(keys.parse_key, experiment.present(keys.config_prefix(experiment.exp_hash)))
    return {key.name for key in parsed if key is not None and key.kind is Kind.CONFIG and key.name is not None}


def _config(experiment: Experiment, name: str) -> dict[str, Any]:
    try:
        return experiment.read_config(name)
    except CheckpointNotFound:
        return {}


def _is_below(path: str, key: str) -> bool:
    return path == key or path.startswith((f"{key}.", f"{key}["))


def _samples(
    old: Experiment, new: Experiment, before: Provenance, after: Provenance, problems: list[str]
) -> SampleChange | None:
    try:
        return sample_change(old, new, before, after)
    except CorruptCheckpoint as error:
        problems.append(str(error))
        return SampleChange(before.sample_count, after.sample_count)
