"""Which experiment came out of which, as far as the order of a mirror needs it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from ckptstore import keys
from ckptstore.errors import KeyNotFound
from ckptstore.mirroring.planning import Plan
from ckptstore.store import Store

# The whole record of a large model takes seconds to parse as YAML.
_PARENT = re.compile(r"^parent: ['\"]?([0-9a-f]{16})['\"]?$", re.MULTILINE)


def parent_of(store: Store, exp_hash: str) -> str | None:
    """Return the experiment that one came out of, as its record says; None without either. One request."""
    with suppress(KeyNotFound):
        record = bytes(store.get(keys.provenance_key(exp_hash))).decode("utf-8", "replace")
        found = _PARENT.search(record)
        return found[1] if found else None
    return None


def parents_first(plans: Sequence[Plan], parents: Mapping[str, str]) -> tuple[list[Plan], dict[str, str]]:
    """Return the plans so ordered, and the parents of those that have one among them; a circle is cut open.

    Args:
        plans: in any order.
        parents: by prefix, the prefix of the experiment that it came out of.
    """
    by_prefix = {plan.prefix: plan for plan in plans}
    ordered: dict[str, Plan] = {}
    kept: dict[str, str] = {}
    for plan in plans:
        line = list(_line(plan.prefix, parents, by_prefix, ordered))
        for prefix in reversed(line):
            ordered[prefix] = by_prefix[prefix]
            if parents.get(prefix) in ordered and parents[prefix] != prefix:
                kept[prefix] = parents[prefix]
    return list(ordered.values()), kept


def _line(
    prefix: str, parents: Mapping[str, str], known: Mapping[str, Plan], done: Mapping[str, Plan]
) -> Iterator[str]:
    """Yield an experiment, its parent, and so on, as far as they are to be ordered."""
    seen: set[str] = set()
    at: str | None = prefix
    while at is not None and at in known and at not in done and at not in seen:
        seen.add(at)
        yield at
        at = parents.get(at)
