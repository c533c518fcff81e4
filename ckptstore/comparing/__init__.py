"""Compare experiments and checkpoints, say why a hash changed, and show which experiment came out of which."""

from ckptstore.comparing.checkpoints import CheckpointDiff, Distance, TensorChange, compare_checkpoints
from ckptstore.comparing.experiments import ConfigChange, ExperimentDiff, compare_experiments
from ckptstore.comparing.metrics import Best, Metric
from ckptstore.comparing.modules import ModuleChange
from ckptstore.comparing.overviews import Branch, Overview, lineage, overviews
from ckptstore.comparing.samples import SampleChange
from ckptstore.comparing.sentences import why
from ckptstore.comparing.values import ValueChange

__all__ = [
    "Best",
    "Branch",
    "CheckpointDiff",
    "ConfigChange",
    "Distance",
    "ExperimentDiff",
    "Metric",
    "ModuleChange",
    "Overview",
    "SampleChange",
    "TensorChange",
    "ValueChange",
    "compare_checkpoints",
    "compare_experiments",
    "lineage",
    "overviews",
    "why",
]
