"""Accuracy on the experiences seen so far, for any Avalanche script."""

from typing import Any

import torch
from avalanche.evaluation import PluginMetric
from avalanche.evaluation.metric_results import MetricValue
from torch import Tensor


class SeenExperiencesAccuracy(PluginMetric[float]):
    """Mean accuracy over the evaluated experiences that training has begun, if any.

    Avalanche's ``Top1_Acc_Stream`` averages over experiences never trained too, so it
    hardly moves while everything learned is lost.

    Args:
        trains_jointly: the strategy trains once, on all experiences together.

    >>> EvaluationPlugin(SeenExperiencesAccuracy(), loggers=[InteractiveLogger()])
    """

    def __init__(self, trains_jointly: bool = False) -> None:
        super().__init__()
        self._trains_jointly = trains_jointly
        self._seen: set[int] = set()
        self.reset()

    def reset(self) -> None:
        self._counts: dict[int, tuple[Tensor, int]] = {}

    def result(self) -> float | None:
        """The mean of the accuracies, None if no seen experience was evaluated."""
        if not self._counts:
            return None
        correct, totals = zip(*self._counts.values())
        hits = torch.stack(correct).tolist()
        return sum(c / n for c, n in zip(hits, totals)) / len(totals)

    def before_training_exp(self, strategy: Any) -> None:
        self._seen.add(strategy.experience.current_experience)

    def before_eval(self, strategy: Any) -> None:
        self.reset()

    @torch.no_grad()
    def after_eval_iteration(self, strategy: Any) -> None:
        experience = strategy.experience.current_experience
        if experience in self._seen or (self._trains_jointly and self._seen):
            hits = (strategy.mb_output.argmax(1) == strategy.mb_y).sum()
            correct, n = self._counts.get(experience, (torch.zeros_like(hits), 0))
            self._counts[experience] = (correct + hits, n + len(strategy.mb_y))

    def after_eval(self, strategy: Any) -> list[MetricValue] | None:
        if (value := self.result()) is None:
            return None
        stream = list(strategy.current_eval_stream)[0].origin_stream.name
        name = f"{self}/eval_phase/{stream}_stream"
        return [MetricValue(self, name, value, strategy.clock.train_iterations)]

    def __str__(self) -> str:
        return "Top1_Acc_Seen_Stream"
