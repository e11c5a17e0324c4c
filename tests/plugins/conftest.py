"""A stream small enough for oracles: points in 6 dimensions, a stock Avalanche benchmark."""

from collections.abc import Callable

import pytest
import torch
from avalanche.benchmarks import (
    CLScenario,
    benchmark_from_datasets,
    with_classes_timeline,
    with_task_labels,
)
from avalanche.benchmarks.utils import DataAttribute, TaskLabels
from avalanche.benchmarks.utils.classification_dataset import (
    TaskAwareSupervisedClassificationDataset,
)
from avalanche.logging import BaseLogger
from avalanche.training.plugins import EvaluationPlugin, SupervisedPlugin
from avalanche.training.supervised import Naive
from torch import nn
from torch.utils.data import TensorDataset


@pytest.fixture
def naive() -> Callable[..., Naive]:
    """``naive(model, *plugins, lr=0.1, criterion=...)``: plain SGD, batches of 8."""

    def build(
        model: nn.Module,
        *plugins: SupervisedPlugin,
        lr: float = 0.1,
        criterion: nn.Module | None = None,
    ) -> Naive:
        return Naive(
            model=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=lr),
            criterion=criterion or nn.CrossEntropyLoss(),
            train_mb_size=8,
            eval_mb_size=8,
            plugins=list(plugins),
            evaluator=EvaluationPlugin(loggers=[BaseLogger()]),
        )

    return build


@pytest.fixture
def points_benchmark() -> Callable[..., CLScenario]:
    """``points_benchmark(incremental, n_experiences=3, n=24)``; two classes each."""

    def build(
        incremental: str = "class", n_experiences: int = 3, n: int = 24
    ) -> CLScenario:
        generator = torch.Generator().manual_seed(1)
        streams = {}
        for stream in ("train", "test"):
            datasets = []
            for e in range(n_experiences):
                y = torch.arange(n) % 2
                centre = torch.randn(2, 6, generator=torch.Generator().manual_seed(e))
                x = centre[y] + 0.3 * torch.randn(n, 6, generator=generator)
                y = y + 2 * e if incremental == "class" else y
                task = e if incremental == "task" else 0
                datasets.append(
                    TaskAwareSupervisedClassificationDataset(
                        [TensorDataset(x, y)],
                        data_attributes=[
                            DataAttribute(y.tolist(), "targets"),
                            TaskLabels([task] * n),
                        ],
                    )
                )
            streams[stream] = datasets
        return with_task_labels(
            with_classes_timeline(benchmark_from_datasets(**streams))
        )

    return build
