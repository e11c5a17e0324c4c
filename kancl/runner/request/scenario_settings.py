"""What a scenario sets unless the command line says otherwise.

The defaults in ``configs/`` are those of images; a few points on a line want other ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kancl.runner.request.registry import GROUPS


def _gaussian_peaks(model: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """One spline layer in one dimension, and moments that do not outlive a phase."""
    flat = values.get("scenario.dimensions", 1) == 1
    splines: list[int] = [] if flat else [16]
    return {
        "training.iterations": 500,
        "optimizer.lr": 0.01,
        "optimizer.reset_each_experience": True,
        "model.hidden": [32, 32] if model == "mlp" else splines,
    }


SETTINGS: dict[str, Callable[[str, Mapping[str, Any]], dict[str, Any]]] = {
    "gaussian_peaks": _gaussian_peaks,
}
"""By scenario: of a model's name and the values of the command line."""


def with_settings(composed: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    """The configuration with the settings of its scenario.

    Args:
        values: what the command line sets, on top of all this.
    """
    settings = SETTINGS.get(composed.scenario.name)
    if settings is None:
        return composed
    config = composed.copy()
    for key, value in settings(config.model.name, values).items():
        if key == "training.iterations" and "training.epochs" in values:
            continue
        if key == "model.hidden" and not _has_hidden(config.model.name):
            continue
        OmegaConf.update(config, key, value, force_add=True)
    if "model.hidden" not in values:  # which a reference would take over
        name = values.get("match_to", config.match_to)
        if _has_hidden(name):
            hidden = settings(name, values)["model.hidden"]
            config.match_to = {"name": name, "hidden": hidden}
    return config


def _has_hidden(model: object) -> bool:
    group = GROUPS["model"]
    return model in group.builders and "hidden" in group.options(model)
