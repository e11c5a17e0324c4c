"""Elastic weight consolidation: one term per experience, online, or Avalanche's own."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from avalanche.training.plugins import EWCPlugin as AvalancheEWCPlugin
from avalanche.training.utils import ParamData
from torch import Tensor, nn

from kancl.config.values import Count, NonNegative, Share
from kancl.models.inspect import evaluate_in_chunks
from kancl.plugins.penalties.anchor import AnchorPlugin, Pooling, pooled, values
from kancl.plugins.penalties.per_sample_gradients import gradient_moments
from kancl.plugins.plugin import Needs, Plugin, Stage, TrainingSetup
from kancl.plugins.samples import drawn

CLASSES = "it takes class probabilities; use strategy=mas or strategy=si instead"

FisherLabels = Literal["expected", "sampled", "true", "predicted"]


@dataclass(kw_only=True, eq=False)
class EWCPlugin(AnchorPlugin):
    """Hold parameters by their exact Fisher information, a term per experience (EWC).

    ``loss += lambda/2 sum_k sum_i F_ki (theta_i - theta_ki)^2``, k over past
    experiences, each with its own Fisher information and parameters. With ``gamma`` the
    online variant: one term at the latest parameters, ``F* <- gamma F* + F_k``, ``loss
    += lambda/2 sum_i gamma F*_i (theta_i - theta*_i)^2``.

    Args:
        ewc_lambda: strength.
        gamma: decay of past Fisher information, in [0, 1], for online EWC; null keeps a
            term per experience.
        fisher_labels: labels that the Fisher information is taken over: their
            expectation under the model, one drawn from it, the true one, or the one
            predicted.
        fisher_samples: samples drawn for it after each experience; null uses all.
        implicit: no penalty, but after every step ``theta <- a theta + (1 - a) m`` with
            ``a = 1/(1 + lr lambda sum_k F_k)`` and ``m`` the parameters' mean weighted
            by F: EWC's step taken implicitly, which can't diverge.
        pooling: of spline coefficients' importances: none; knot: one per input's basis;
            occupancy: divided by how much the experience used the basis.
    Source: Kirkpatrick et al. 2017, arXiv:1612.00796, eq. 3; online: Schwarz et al.
        2018, arXiv:1805.06370. differs from Avalanche: exact per-sample Fisher
        information, the factor 1/2, and gamma at its place in the loss.
    """

    state = ("anchor", "_generator")
    needs = Needs(class_labels=CLASSES)

    ewc_lambda: NonNegative = 100.0
    gamma: Share | None = None
    fisher_labels: FisherLabels = "expected"
    fisher_samples: Count | None = None
    implicit: bool = False
    pooling: Pooling = "none"
    _generator: torch.Generator = field(default_factory=torch.Generator, init=False)

    @property
    def stage(self) -> Stage:  # type: ignore[override]
        return Stage.PULL if self.implicit else Stage.PENALTY

    @property
    def factor(self) -> float:
        return self.ewc_lambda * (1 if self.gamma is None else self.gamma) / 2

    def prepare(self, setup: TrainingSetup) -> None:
        self._generator.manual_seed(setup.seed)

    def before_backward(self, strategy: Any, **kwargs: Any) -> None:
        if not self.implicit:
            super().before_backward(strategy, **kwargs)

    def after_update(self, strategy: Any, **kwargs: Any) -> None:
        if self.anchor and self.implicit:
            lr = strategy.optimizer.param_groups[0]["lr"]
            self.anchor.pull(self._parameters, 2 * lr * self.factor)

    def importance(self, strategy: Any) -> dict[str, Tensor]:
        x, y, task_labels = drawn(strategy, self.fisher_samples, self._generator)
        fisher = diagonal_fisher(
            strategy.model,
            x.to(strategy.device),
            y.to(strategy.device),
            task_labels,
            labels=self.fisher_labels,
            generator=self._generator,
        )
        return pooled(fisher, self.pooling, strategy)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        fisher, parameters = self.importance(strategy), values(strategy.model)
        if self.gamma is None:
            self.anchor.add(fisher, parameters)
        else:
            self.anchor.move(fisher, parameters, decay=self.gamma)


@dataclass(kw_only=True, eq=False)
class BatchedEWCPlugin(Plugin, AvalancheEWCPlugin):
    """Avalanche's EWC: squared gradients of the mean loss of mini-batches.

    ``loss += ewc_lambda sum_k sum_i G_ki (theta_i - theta_ki)^2``, ``G`` the average of
    (gradient of the mean loss of a batch)^2. It depends on the batch size and has no
    1/2: for comparison with numbers from Avalanche only.

    Args:
        ewc_lambda: strength.
    Source: Avalanche 0.6, ``EWCPlugin(mode="separate")``, unchanged; its issue 1224.
    """

    stage = Stage.PENALTY
    state = ("saved_params", "importances")
    transient = ("mode", "decay_factor", "keep_importance_data")
    needs = Needs(
        class_labels=CLASSES,
        fixed_grids="Avalanche's importances don't follow a grid that changes; use "
        "strategy=ewc, or leave grow_grids out instead",
    )

    ewc_lambda: NonNegative = 100.0

    def __post_init__(self) -> None:
        super().__post_init__()
        AvalancheEWCPlugin.__init__(self, self.ewc_lambda, mode="separate")

    def state_dict(self) -> dict[str, Any]:
        return {
            name: {
                experience: {key: part.data for key, part in parts.items()}
                for experience, parts in getattr(self, name).items()
            }
            for name in self.state
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in self.state:
            restored: dict[int, dict[str, ParamData]] = defaultdict(dict)
            for experience, parts in state[name].items():
                restored[experience] = {
                    key: ParamData(key, init_tensor=data, device=data.device)
                    for key, data in parts.items()
                }
            setattr(self, name, restored)


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
        generator: on the CPU, for ``"sampled"`` labels.
    Shape: x ``(n, ...)``, y and task_labels ``(n,)``.
    Returns: by name, for every trainable parameter.
    Raises: ValueError if ``labels`` is unknown or there is no sample.
    Source: Kirkpatrick et al. 2017, arXiv:1612.00796; the four kinds of labels: van de
        Ven 2025, arXiv:2502.11756. differs from Avalanche: it squares the gradient of
        the mean over a mini-batch.
    """
    if len(x) == 0:
        raise ValueError("the Fisher information needs at least one sample, got none")
    if labels not in get_args(FisherLabels):
        raise ValueError(
            f"fisher_labels must be expected, sampled, true or predicted, got {labels!r}"
        )
    if labels in ("sampled", "predicted"):
        y = _labels(model, x, task_labels, labels, generator)
    objectives = _expected if labels == "expected" else _log_likelihood
    sums = gradient_moments(model, x, y, task_labels, objectives, power=2)
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
        if kind == "predicted":
            labels[rows.cpu()] = p.argmax(1)
        else:
            labels[rows.cpu()] = p.multinomial(1, generator=generator).squeeze(1)
    return labels.to(x.device)
