"""Typed run configuration: what keys there are and what they take (no torch)."""

from kancl.config.files import Preset, config_dir, presets, read_preset
from kancl.config.groups import Group, Option, Part
from kancl.config.schema import Choice, Evaluation, RunConfig, Seeds, Training
from kancl.config.typed import fingerprint, plain, typed
from kancl.config.values import ConfigError, DataFile, nearest
