"""Avalanche strategies by name: one function each, one line each in ``STRATEGIES``."""

from kancl.strategies.pairs import check_pair
from kancl.strategies.registry import STRATEGIES, trains_jointly
from kancl.strategies.setup import TrainingSetup

__all__ = ["STRATEGIES", "TrainingSetup", "check_pair", "trains_jointly"]
