"""What changed in an architecture, module by module."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ckptstore.comparing.values import Change

__all__ = ["ModuleChange", "module_changes", "printed_modules"]

_CHILD = re.compile(r"(?P<indent> *)\((?P<name>[^()\s]+)\): (?:(?P<times>[0-9]+) x )?(?P<form>\S.*)")
_PRINTED = re.compile(r"(?P<name>[\w.]+)\((?P<arguments>.*)\)")
_ARGUMENT = re.compile(r"(\w+=)?((?:\([^()]*\)|\[[^\[\]]*\]|[^,()\[\]])+)(?:, |$)")
_REPEATED = re.compile(r"([0-9]+)-([0-9]+)")


@dataclass(frozen=True, slots=True)
class ModuleChange:
    """A module that differs, in itself and not in the modules below it.

    Attributes:
        path: such as ``features.0``; "" is the root.
        change: "added", "removed" or "changed".
        old: its printed form before, such as ``Linear(in_features=8, ...)``; None where it is not known.
        new: the same, after.
    """

    path: str
    change: Change
    old: str | None = None
    new: str | None = None

    def __str__(self) -> str:
        name = self.path or "the root"
        if self.change == "changed" and self.old and self.new and self.old != self.new:
            return f"{name} {_change_of_form(self.old, self.new)}"
        form = self.new or self.old
        return f"{name} {self.change}" + (f" ({form})" if form else "")


def module_changes(
    old: Mapping[str, str], new: Mapping[str, str], old_forms: Mapping[str, str], new_forms: Mapping[str, str]
) -> Iterator[ModuleChange]:
    """Yield the modules that differ, in registration order; what only the new model has comes last.

    Args:
        old: digest by path, as a record holds them.
        new: the same, of the other experiment.
        old_forms: printed form by path, as far as it is known.
        new_forms: the same, of the other experiment.
    """
    for path in [*old, *(path for path in new if path not in old)]:
        if old.get(path) != new.get(path):
            change: Change = "added" if path not in old else "removed" if path not in new else "changed"
            yield ModuleChange(path, change, old_forms.get(path), new_forms.get(path))


def printed_modules(text: str) -> dict[str, str]:
    """Return the line of each module, by path, from the text that a model prints as.

    Equal neighbours, which torch prints once as ``(0-3): 4 x Block(``, are taken apart. A form that spans lines is
    cut after the first. Where a class prints itself in another way there is less, or nothing.
    """
    lines = text.splitlines()
    if not lines or not lines[0].strip():
        return {}
    forms = {"": _form(lines[0])}
    above: list[tuple[int, list[str]]] = [(0, [""])]
    for line in lines[1:]:
        found = _CHILD.fullmatch(line)
        if found is None:
            continue
        while above[-1][0] >= len(found["indent"]) and len(above) > 1:
            above.pop()
        paths = [f"{parent}.{name}" if parent else name for parent in above[-1][1] for name in _names(found)]
        forms.update(dict.fromkeys(paths, _form(found["form"])))
        above.append((len(found["indent"]), paths))
    return forms


def _change_of_form(old: str, new: str) -> str:
    """Return what changed between two printed forms: the arguments alone where that says it all."""
    before, after = _PRINTED.fullmatch(old), _PRINTED.fullmatch(new)
    if before is None or after is None or before["name"] != after["name"]:
        return f"{old} -> {new}"
    olds, news = (_ARGUMENT.findall(found["arguments"]) for found in (before, after))
    if len(olds) != len(news) or [name for name, _ in olds] != [name for name, _ in news]:
        return f"{old} -> {new}"
    changed = [
        f"{name.rstrip('=')} {one} -> {other}".strip()
        for (name, one), (_, other) in zip(olds, news, strict=True)
        if one != other
    ]
    return f"{before['name']} {', '.join(changed)}"


def _names(found: re.Match[str]) -> list[str]:
    span = _REPEATED.fullmatch(found["name"])
    if found["times"] is None or span is None:
        return [found["name"]]
    return [str(number) for number in range(int(span[1]), int(span[2]) + 1)]


def _form(text: str) -> str:
    return text.removesuffix("(").strip()
