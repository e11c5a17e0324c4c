"""Rows of spline coefficients that a step must not move."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from kancl.models import KANLinear


class FrozenCoefficients:
    """Coefficients, and their optimizer state, as they were before a step.

    State counts if it has the shape of the coefficients: momentum, Adam's moments.

    Args:
        frozen: of each layer, which coefficients: ``(in_features, n_basis)``, boolean.
    """

    @torch.no_grad()
    def __init__(
        self, frozen: Mapping[KANLinear, Tensor], optimizer: Optimizer
    ) -> None:
        self._rows = {
            layer: (rows, layer.coefficients[rows], _moments(layer, rows, optimizer))
            for layer, rows in frozen.items()
        }

    @torch.no_grad()
    def put_back(self, optimizer: Optimizer) -> None:
        """Undo what the step did to them; state that it made starts from 0."""
        for layer, (rows, coefficients, moments) in self._rows.items():
            layer.coefficients[rows] = coefficients
            for key, moment in _state(layer, optimizer).items():
                moment[rows] = moments.get(key, moment.new_zeros(()))


def _moments(layer: KANLinear, rows: Tensor, optimizer: Optimizer) -> dict[str, Tensor]:
    return {key: value[rows] for key, value in _state(layer, optimizer).items()}


def _state(layer: KANLinear, optimizer: Optimizer) -> dict[str, Tensor]:
    state: dict[str, Any] = optimizer.state.get(layer.coefficients, {})
    shape = layer.coefficients.shape
    return {
        key: value
        for key, value in state.items()
        if isinstance(value, Tensor) and value.shape == shape
    }
