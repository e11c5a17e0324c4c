"""Strategies by name: lists of plugins on Avalanche's strategy classes."""

from kancl.plugins.plugin import TrainingSetup
from kancl.strategies.registry import (
    GROUP,
    STRATEGIES,
    build,
    steps_alone,
    strategy_state_bytes,
    trains_jointly,
    trains_last_layer_only,
)
