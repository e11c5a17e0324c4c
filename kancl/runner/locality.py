"""The mechanisms of the ``locality`` section, as plugins."""

from __future__ import annotations

from avalanche.training.plugins import SupervisedPlugin
from torch import nn

from kancl.config import ConfigError, RunConfig
from kancl.models import trains_lazily
from kancl.plugins.locality.watch import kan_layers
from kancl.plugins.measuring.recorder import RecorderPlugin
from kancl.plugins.penalties.drift_penalty import DriftPenaltyPlugin
from kancl.plugins.steps.frozen_base import FrozenBasePlugin
from kancl.plugins.steps.grid_growth import GridGrowthPlugin
from kancl.plugins.steps.hard_mask import HardMaskPlugin
from kancl.plugins.steps.lazy_steps import LazyStepsPlugin


def is_lazy(config: RunConfig) -> bool:
    """Whether steps leave untouched splines alone."""
    chosen = config.locality.lazy
    return trains_lazily(config.model.builder) if chosen is None else chosen


def locality_plugins(
    config: RunConfig, model: nn.Module, recorder: RecorderPlugin | None = None
) -> list[SupervisedPlugin]:
    """What is switched on, in the order in which it is to act.

    Args:
        recorder: is told of grids that change and of what a mask leaves free.

    Raises: ConfigError for mechanisms on splines that the model has not.
    """
    locality = config.locality
    grid = config.model.options.get("input_grid", "uniform")
    if grid != "uniform" and locality.grow_off_grid is not None:
        raise ConfigError(
            f"model.input_grid={grid} is frozen after the first experience: a warp ends "
            "with its grid, and cells as narrow as those of the narrowest range would "
            "have to reach all inputs; nearest: locality.grow_off_grid=null, or "
            "model.input_grid=uniform"
        )
    plugins: list[SupervisedPlugin] = []
    if is_lazy(config):
        plugins.append(LazyStepsPlugin())
    if locality.grow_off_grid is not None or locality.refine_below > 0:
        grow = 1.0 if locality.grow_off_grid is None else locality.grow_off_grid
        growth = GridGrowthPlugin(grow, locality.refine_below, recorder=recorder)
        plugins.append(growth)
    if locality.freeze_base:
        plugins.append(FrozenBasePlugin())
    if locality.drift_lambda != 0:
        plugins.append(DriftPenaltyPlugin(locality.drift_lambda))
    if locality.hard_mask:
        plugins.append(HardMaskPlugin(recorder=recorder))
    if plugins and not kan_layers(model):
        raise ConfigError(
            f"locality.* is about splines, and model={config.model.name} has none; "
            "nearest: model=kan"
        )
    return plugins
