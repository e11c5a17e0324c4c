"""What training on an experience will take from older ones, told before it; how well."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import sqrt
from typing import Any

import torch
from scipy.stats import rankdata
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kancl.metrics.locality import falls, forecast_quality
from kancl.metrics.score_matrix import UndefinedMetric, evaluate_metrics, forgetting
from kancl.models.inspect import evaluate_in_chunks

Pairs = Mapping[tuple[int, int], float]
"""By old and new experience, 0-based."""

RANKED_BY = {
    "overlap": "kernel_ratio",
    "kernel": "loss",
    "probe": "accuracy",
    "stored": "accuracy",
    "ceiling": "accuracy",
}
"""By kind of forecast, which of its values ranks what will be lost."""

LEAST_FORGOTTEN = 0.01
"""Where less is forgotten, as a fraction, there is nothing to forecast."""

N_SHUFFLES = 200


@dataclass(frozen=True)
class Standing:
    """How a network does on samples, or what it loses of that."""

    accuracy: float
    loss: float  # mean cross-entropy

    def lost(self, later: "Standing") -> "Standing":
        """The accuracy lost until ``later`` and what is added to the loss."""
        return Standing(self.accuracy - later.accuracy, later.loss - self.loss)


def standing_of(outputs: Tensor, targets: Tensor) -> Standing:
    """Shape: ``(n, n_classes)``, ``(n,)``."""
    hits = (outputs.argmax(1) == targets).double()
    losses = cross_entropy(outputs, targets, reduction="none").double()
    return Standing(*torch.stack([hits.mean(), losses.mean()]).tolist())


def standing(
    model: nn.Module, x: Tensor, y: Tensor, task_labels: Tensor, device: Any = None
) -> Standing:
    """That of a network on samples ``(n, ...)``, ``(n,)``, ``(n,)``."""
    chunks = evaluate_in_chunks(model, x, task_labels, device=device)
    each = [
        (outputs, y[rows.to(y.device)].to(outputs.device)) for rows, outputs in chunks
    ]
    outputs, targets = map(torch.cat, zip(*each))
    return standing_of(outputs, targets)


def rho(forecast: Pairs, matrix: Tensor) -> float:
    """Spearman's rank correlation of a forecast with the accuracy lost on test sets.

    Args:
        matrix: accuracies, ``(N + 1, N)``.
    Raises: UndefinedMetric where nothing was forgotten, or too few pairs are known.
    """
    return forecast_quality(*_sides(forecast, matrix))


def partial_rho(forecast: Pairs, matrix: Tensor) -> float:
    """``rho`` given the accuracy before the training: who has much can lose much.

    ``(r_fl - r_fb r_lb) / sqrt((1 - r_fb^2) (1 - r_lb^2))`` of ranks.

    Args, Raises: see ``rho``; undefined where that accuracy tells all of one side.
    """
    foretold, lost = _sides(forecast, matrix)
    before = [float(matrix[t, s]) for s, t in sorted(_known(forecast, matrix))]
    pairs = (foretold, lost), (foretold, before), (lost, before)
    r_fl, r_fb, r_lb = (forecast_quality(*pair) for pair in pairs)
    left = (1 - r_fb**2) * (1 - r_lb**2)
    if left < 1e-12:
        raise UndefinedMetric("the accuracy before tells all of the forecast or loss")
    return (r_fl - r_fb * r_lb) / sqrt(left)


def shuffled_rho(forecast: Pairs, matrix: Tensor, n: int = N_SHUFFLES) -> float:
    """The control: mean ``rho`` of the forecast dealt to other pairs at random.

    Args, Raises: see ``rho``.
    """
    rho(forecast, matrix)  # raises what it raises
    foretold, lost = (torch.as_tensor(rankdata(v)) for v in _sides(forecast, matrix))
    generator = torch.Generator().manual_seed(0)
    dealt = [foretold[torch.randperm(len(lost), generator=generator)] for _ in range(n)]
    rows = torch.stack([lost, *dealt])
    return float(torch.corrcoef(rows)[0, 1:].mean())


def judge(forecasts: Mapping[str, Pairs], matrix: Tensor) -> dict[str, Any]:
    """By ``forecast_<kind>_<metric>``: how well each kind ranks what was lost; those
    undefined are None, for the reason under ``"undefined"``.
    """
    metrics = {
        f"forecast_{kind}_{metric.__name__}": partial(metric, pairs)
        for kind, pairs in forecasts.items()
        for metric in (rho, partial_rho, shuffled_rho)
    }
    return evaluate_metrics(metrics, matrix)


def _known(forecast: Pairs, matrix: Tensor) -> dict[tuple[int, int], float]:
    """What was lost, of the pairs that are forecast."""
    return {pair: lost for pair, lost in falls(matrix).items() if pair in forecast}


def _sides(forecast: Pairs, matrix: Tensor) -> tuple[list[float], list[float]]:
    if (all_in_all := forgetting(matrix)) < LEAST_FORGOTTEN:
        raise UndefinedMetric(
            f"nothing to forecast: {all_in_all:.1%} was forgotten, less than a point"
        )
    lost = _known(forecast, matrix)
    return [forecast[pair] for pair in sorted(lost)], [lost[p] for p in sorted(lost)]
