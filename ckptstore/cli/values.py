"""What the values of options mean: backend options, durations, metrics."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

from ckptstore.cli.addresses import WrongUse

if TYPE_CHECKING:
    from ckptstore.comparing.metrics import Metric
    from ckptstore.retention import Best

__all__ = ["best_policy", "duration_of", "metric_option", "options_of", "steps_of"]

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(s|min|h|d|w)")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def options_of(words: Iterable[str]) -> dict[str, object]:
    """Return backend options from words such as ``endpoint_url=http://...``; a value is JSON, or else text.

    Raises:
        WrongUse: a word is not NAME=VALUE; it is not repeated, since it may hold a secret.
    """
    return dict(map(_option, words))


def _option(word: str) -> tuple[str, object]:
    name, equals, value = word.partition("=")
    if not equals or not name.isidentifier():
        raise WrongUse("-o takes NAME=VALUE, such as -o anon=true")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def duration_of(text: str) -> timedelta:
    """Return the time that text such as ``90s``, ``30min``, ``12h``, ``7d`` or ``2w`` says.

    Raises:
        WrongUse: it says none.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise WrongUse(f"{text!r} is no time; write 90s, 30min, 12h, 7d or 2w")
    return timedelta(seconds=float(found[1]) * _SECONDS[found[2]])


def best_policy(text: str) -> Best:
    """Return the policy that ``NAME[:min|max][:N]`` says: keep the best N, one by default.

    Raises:
        WrongUse: which way is better is not known, or N is no number.
    """
    from ckptstore.retention import Best

    name, colon, count = text.rpartition(":")
    counted = bool(colon) and count.isdecimal()
    metric = metric_option(name if counted else text)
    if metric is None or not metric.name:
        raise WrongUse("--best takes NAME[:min|max][:N], such as loss:min:3")
    return Best(int(count) if counted else 1, metric.name, metric.mode)


def steps_of(words: Iterable[str]) -> list[int]:
    """Return the steps in words such as ``100`` or ``100,200``.

    Raises:
        WrongUse: one is no step.
    """
    texts = [text.strip() for word in words for text in word.split(",")]
    if wrong := [text for text in texts if not text.isdecimal()]:
        raise WrongUse(f"{wrong[0]!r} is no step; write --pin 100 or --pin 100,200")
    return [int(text) for text in texts]


def metric_option(text: str | None) -> Metric | None:
    """Return the metric that ``--metric`` names, None where it was not given.

    Raises:
        WrongUse: which way is better is not known.
    """
    if text is None:
        return None
    from ckptstore.comparing.metrics import parsed_metric

    try:
        return parsed_metric(text)
    except ValueError as error:
        raise WrongUse(str(error)) from None
