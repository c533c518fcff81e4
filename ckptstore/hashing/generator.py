"""The experiment hash for those who want it without a manager."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ckptstore.hashing.config import config_digest
from ckptstore.hashing.model import describe_model
from ckptstore.hashing.plain import plain_config
from ckptstore.hashing.samples import SampleSet, sample_digest
from ckptstore.hashing.scheme import combine

if TYPE_CHECKING:
    from torch import nn


class ExperimentHashGenerator:
    """Generates experiment hashes, and says what changed since the last one.

    An iterator given as UIDs is used up by the call: give a list, or a SampleSet, to ask more than once.

    Args:
        ignore: what to leave out of configs; see `plain_config`.
        forward_source: False leaves the source of `forward` out of models; see `describe_model`.

    Raises:
        ConfigTypeError, UnsupportedModel, UnsupportedUID: from each method that is given a component; the last hash
            stays.
    """

    def __init__(self, *, ignore: Iterable[str] = (), forward_source: bool = True) -> None:
        self._ignore = ignore if isinstance(ignore, str) else tuple(ignore)
        self._forward_source = forward_source
        self._last: dict[str, str | None] = {"model": None, "config": None, "data": None, "combined": None}
        plain_config({}, ignore=self._ignore)

    def generate_hash(
        self,
        model: nn.Module | None = None,
        config: object = None,
        active_data_uids: Iterable[Any] | SampleSet | None = None,
    ) -> str:
        """Return the experiment hash, 16 hex digits, and remember its components; None says that one is absent."""
        digests = self._digests(model, config, active_data_uids)
        combined = combine(digests["model"], digests["config"], digests["data"])
        self._last = {**digests, "combined": combined}
        return combined

    def has_changed(
        self,
        model: nn.Module | None = None,
        config: object = None,
        active_data_uids: Iterable[Any] | SampleSet | None = None,
    ) -> tuple[bool, set[str]]:
        """Compare components with the last hash generated, and say which differ: "model", "config", "data".

        What is None is not compared; what the last hash was generated without has changed. Nothing is remembered.
        """
        digests = self._digests(model, config, active_data_uids)
        changed = {name for name, found in digests.items() if found is not None and found != self._last[name]}
        return bool(changed), changed

    def get_last_hash(self) -> str | None:
        """Return the last hash generated, or None."""
        return self._last["combined"]

    def get_component_hashes(self) -> dict[str, str | None]:
        """Return the digests "model", "config" and "data" (None: absent), and the hash as "combined"."""
        return dict(self._last)

    def _digests(self, model: nn.Module | None, config: object, uids: Any) -> dict[str, str | None]:
        return {
            "model": None if model is None else describe_model(model, forward_source=self._forward_source).digest,
            "config": None if config is None else config_digest(plain_config(config, ignore=self._ignore)),
            "data": None if uids is None else sample_digest(uids)[0],
        }
