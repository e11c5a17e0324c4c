"""The four groups of a configuration, each a literal dict of its room."""

from kancl.benchmarks import SCENARIOS
from kancl.config import Group
from kancl.models import MODELS
from kancl.runner.optimizers import OPTIMIZERS
from kancl.strategies import GROUP as STRATEGY

GROUPS = {
    "scenario": Group("scenario", SCENARIOS, frozenset({"seed", "device", "data_dir"})),
    "model": Group("model", MODELS, frozenset({"input_range"})),
    "strategy": STRATEGY,
    "optimizer": Group("optimizer", OPTIMIZERS),
}
