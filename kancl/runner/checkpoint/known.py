"""What a state may make again by name, and nothing else."""

from __future__ import annotations

import torch
from avalanche.training.storage_policy import ReservoirSamplingBuffer
from avalanche.training.utils import ParamData

from kancl.models.readouts import FeatureSums
from kancl.plugins.measuring.recorder import Measurement
from kancl.plugins.steps.preconditioners import (
    BlockGram,
    DiagonalOccupancy,
    FullGram,
    LowRankGram,
)

REBUILT = {
    "ReservoirSamplingBuffer": ReservoirSamplingBuffer,
    "ParamData": ParamData,
    "FeatureSums": FeatureSums,
    "FullGram": FullGram,
    "BlockGram": BlockGram,
    "LowRankGram": LowRankGram,
    "DiagonalOccupancy": DiagonalOccupancy,
}
"""Classes of objects that training makes: a fresh strategy has none of them yet."""
FUNCTIONS = {"zeros": torch.zeros}
"""What such objects may hold."""
NAMED_TUPLES = {"Measurement": Measurement}


class Unresumable(ValueError):
    """Something cannot be put into a state, or a state does not fit the run."""
