"""What identifies an experiment: the model's architecture, its config and its active samples, each by a digest."""

from ckptstore.hashing.config import config_digest, dump_yaml
from ckptstore.hashing.generator import ExperimentHashGenerator
from ckptstore.hashing.model import ModelDescription, describe_model
from ckptstore.hashing.plain import plain_config
from ckptstore.hashing.samples import SampleSet, sample_digest
from ckptstore.hashing.scheme import SCHEME_VERSION, combine
from ckptstore.hashing.wrappers import WRAPPER_SEGMENTS, clean_names, unwrap

__all__ = [
    "SCHEME_VERSION",
    "WRAPPER_SEGMENTS",
    "ExperimentHashGenerator",
    "ModelDescription",
    "SampleSet",
    "clean_names",
    "combine",
    "config_digest",
    "describe_model",
    "dump_yaml",
    "plain_config",
    "sample_digest",
    "unwrap",
]
