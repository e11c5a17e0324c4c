"""Strategies by name: lists of plugins on Avalanche's strategy classes."""

from kancl.plugins.setup import TrainingSetup
from kancl.strategies.build import build, strategy_state_bytes
from kancl.strategies.registry import (
    GROUP,
    STRATEGIES,
    trains_jointly,
    trains_last_layer_only,
)
