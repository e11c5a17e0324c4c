"""Avalanche strategies by name: one function each, one line each in ``STRATEGIES``."""

from kancl.strategies.pairs import check_pair
from kancl.strategies.registry import (
    STRATEGIES,
    trains_jointly,
    trains_last_layer_only,
)
from kancl.strategies.setup import TrainingSetup

__all__ = [
    "STRATEGIES",
    "TrainingSetup",
    "check_pair",
    "trains_jointly",
    "trains_last_layer_only",
]
