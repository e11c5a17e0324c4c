"""Typed run configuration: what keys there are and what they take (no torch)."""

from kancl.config.groups import Group, Option
from kancl.config.schema import Choice, Evaluation, RunConfig, Seeds, Training
from kancl.config.tree import config_dir
from kancl.config.typed import defaults, fingerprint, kinds, plain, typed
from kancl.config.values import ConfigError, nearest

__all__ = [
    "Choice",
    "ConfigError",
    "Evaluation",
    "Group",
    "Option",
    "RunConfig",
    "Seeds",
    "Training",
    "config_dir",
    "defaults",
    "fingerprint",
    "kinds",
    "nearest",
    "plain",
    "typed",
]
