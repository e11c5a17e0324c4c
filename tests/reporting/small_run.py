"""A real run of seconds: a few hundred MNIST images, a small network, Avalanche's Naive."""

from collections.abc import Sequence
from typing import Any

import torch
from avalanche.logging import BaseLogger
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive
from torch import nn

from kancl.benchmarks import SCENARIOS


def stream_of_digits(n_experiences: int = 5, n_train: int = 256, **options: Any) -> Any:
    """Class-incremental Split MNIST, so many training and 64 test images each."""
    return SCENARIOS["split_mnist"](
        n_experiences=n_experiences,
        train_samples=n_train,
        test_samples=64,
        **options,
    )


def small_mlp(n_outputs: int = 10, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(1)
    layers = [nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(32, n_outputs))


def naive(
    model: nn.Module,
    plugins: Sequence[Any] = (),
    *,
    lr: float = 0.1,
    evaluator: EvaluationPlugin | None = None,
    cls: type = Naive,
    epochs: int = 2,
    **options: Any,
) -> Any:
    return cls(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=lr),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=16,
        train_epochs=epochs,
        eval_mb_size=64,
        plugins=list(plugins),
        evaluator=evaluator or EvaluationPlugin(loggers=[BaseLogger()]),
        **options,
    )


def train_through(strategy: Any, benchmark: Any, evaluate: bool = True) -> None:
    """Evaluate, then train on each experience and evaluate again."""
    torch.manual_seed(2)
    if evaluate:
        strategy.eval(benchmark.test_stream)
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])
        if evaluate:
            strategy.eval(benchmark.test_stream)
