"""Retention by a manager: after each save that is durable, what no policy keeps goes."""

from __future__ import annotations

from collections.abc import Iterable

from ckptstore.experiment import Experiment
from ckptstore.notices import logger
from ckptstore.retention.in_use import resumed_steps
from ckptstore.retention.planning import Guard, Verdict, none_has
from ckptstore.retention.policies import Policy
from ckptstore.retention.pruning import check_policy, prune_checkpoints
from ckptstore.store import ObjectInfo

__all__ = ["Retention"]


class Retention:
    """Applies a policy to the experiments that one manager saves into.

    What this manager saved goes as soon as the policy says so; what others saved only when it is older than 24 hours
    and not among the newest three. Of an experiment the newest sound checkpoint always stays, and so does what this
    process resumed from. As long as no checkpoint of an experiment has a metric that the policy asks for, all stay;
    that is logged once.

    Args:
        keep: the policy.

    Raises:
        TypeError: it is none.
    """

    def __init__(self, keep: Policy) -> None:
        self._keep = check_policy(keep)
        self._own: dict[str, str] = {}
        self._told: set[str] = set()

    def committed(self, experiment: Experiment, saved: ObjectInfo) -> None:
        """Prune the experiment of a checkpoint that has just become durable.

        One listing and one suffix read; and one of each more, and the deletion, where something goes. A failure is
        logged: the checkpoint is saved all the same, and the next save tries again.
        """
        self._own[saved.key] = saved.version
        guard = Guard(resumed=resumed_steps(experiment.store, experiment.exp_hash), own=self._own)
        try:
            verdicts = prune_checkpoints(experiment.store, experiment.exp_hash, self._keep, guard=guard)
        except Exception as error:  # noqa: BLE001  # the checkpoint is durable: nothing may say that it was lost
            logger.warning("old checkpoints of %s were not deleted: %s", experiment.where_it_is(), error)
            return
        for key in (key for verdict in verdicts if not verdict.stays for key in verdict.keys):
            self._own.pop(key, None)
        self._tell_of_unknown_metrics(experiment, verdicts)

    def _tell_of_unknown_metrics(self, experiment: Experiment, verdicts: Iterable[Verdict]) -> None:
        kept_for = {verdict.why for verdict in verdicts}  # that alone, else it would have stayed anyway
        for metric in sorted(self._keep.metrics - self._told):
            if none_has(metric) in kept_for:
                self._told.add(metric)
                logger.warning(
                    "keep= asks for the metric %r, which no checkpoint of %s has in its metadata as a finite number; "
                    "until one has it none is deleted",
                    metric,
                    experiment.where_it_is(),
                )
