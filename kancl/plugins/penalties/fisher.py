"""The diagonal of the Fisher information matrix, exact per sample."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from kancl.models.inspect import evaluate_in_chunks
from kancl.plugins.penalties.per_sample_gradients import gradient_moments

FisherLabels = Literal["expected", "sampled", "true", "predicted"]


def diagonal_fisher(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    task_labels: Tensor,
    *,
    labels: FisherLabels = "expected",
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """Average squared per-sample gradients of the log-likelihood over the samples.

    ``F_i = 1/N sum_n sum_k p(k|x_n) (d log p(k|x_n) / d theta_i)^2`` for
    ``labels="expected"``; with one label per sample, drawn from p, given in ``y``, or
    the most probable, for ``"sampled"``, ``"true"`` (the "empirical Fisher") and
    ``"predicted"``.

    Args:
        labels: which labels k the log-likelihood is taken of.
        generator: for drawing labels, on the CPU; used with ``"sampled"`` only.
    Shape: x ``(n, ...)``, y and task_labels ``(n,)``.
    Returns: by name, for every trainable parameter. Buffers have none.
    Raises: ValueError if ``labels`` is unknown or there is no sample.
    Source: Kirkpatrick et al. 2017, arXiv:1612.00796; the four kinds of labels: van de
        Ven 2025, arXiv:2502.11756. differs from Avalanche: it squares the gradient of
        the mean over a mini-batch.
    """
    if len(x) == 0:
        raise ValueError("the Fisher information needs at least one sample, got none")
    if labels == "expected":
        sums = gradient_moments(model, x, y, task_labels, _expected, power=2)
    elif labels in ("sampled", "true", "predicted"):
        if labels != "true":
            y = _labels(model, x, task_labels, labels, generator)
        sums = gradient_moments(model, x, y, task_labels, _log_likelihood, power=2)
    else:
        raise ValueError(
            "fisher_labels must be expected, sampled, true or predicted, "
            f"got {labels!r}"
        )
    return {name: moment / len(x) for name, moment in sums.items()}


def _expected(outputs: Tensor, targets: Tensor) -> Iterator[Tensor]:
    log_p = outputs.log_softmax(1)
    root_p = (log_p.detach() / 2).exp()  # squared with the gradient: weighs it by p
    for k in range(outputs.shape[1]):
        yield root_p[:, k] * log_p[:, k]


def _log_likelihood(outputs: Tensor, targets: Tensor) -> Iterator[Tensor]:
    yield outputs.log_softmax(1).gather(1, targets.unsqueeze(1)).squeeze(1)


@torch.no_grad()
def _labels(
    model: nn.Module,
    x: Tensor,
    task_labels: Tensor,
    kind: str,
    generator: torch.Generator | None,
) -> Tensor:
    labels = torch.empty(len(x), dtype=torch.long)
    for rows, outputs in evaluate_in_chunks(model, x, task_labels):
        p = outputs.softmax(1).cpu()
        labels[rows.cpu()] = (
            p.argmax(1)
            if kind == "predicted"
            else p.multinomial(1, generator=generator).squeeze(1)
        )
    return labels.to(x.device)
