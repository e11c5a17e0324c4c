"""What runs are judged by and what they cost: what each number is called and how shown."""

from collections.abc import Callable, Iterator

from torch import Tensor

from kancl.metrics.score_matrix import (
    Score,
    UndefinedMetric,
    average_rmse,
    average_seen_accuracy,
    forgetting,
    largest_rmse_increase,
    learning_accuracy,
)
from kancl.reporting.table import (
    Column,
    count,
    percent,
    prefixed,
    rounded,
    seconds,
    size,
)

NOT_RECORDED = "not recorded"

METRICS = {
    "average_accuracy": Column("average\naccuracy", percent, "%"),
    "learning_accuracy": Column("learning\naccuracy", percent, "%"),
    "forgetting": Column("forgetting", percent, "%"),
    "backward_transfer": Column("backward\ntransfer", percent, "%"),
    "forward_transfer": Column("forward\ntransfer", percent, "%"),
    "average_rmse": Column("average\nRMSE", rounded),
    "learning_rmse": Column("learning\nRMSE", rounded),
    "old_peak_rmse_increase": Column("old peaks'\nincrease", rounded),
}

COMPARED = {
    "accuracy": ("forgetting", "learning_accuracy", "average_accuracy"),
    "rmse": ("old_peak_rmse_increase", "learning_rmse", "average_rmse"),
}
"""What two models are compared by, by score: what was lost, learned, is left."""

ERRORS = COMPARED["rmse"]

CONTINUAL = {
    "minimum_accuracy": Column("min-ACC", percent, "%"),
    "worst_case_accuracy": Column("WC-ACC", percent, "%"),
    "stability_gap": Column("stability gap", percent, "%"),
    "recovery_iterations": Column("recovery,", lambda n: f"{n:.1f}", "iterations"),
    "recovered_share": Column("recovered", percent, "%"),
    "windowed_forgetting": Column("windowed forgetting", percent, "%"),
    "windowed_plasticity": Column("windowed plasticity", percent, "%"),
}
"""Metrics of the curves between experience boundaries."""

COSTS = {
    "n_parameters": Column("parameters", count, absent=NOT_RECORDED),
    "n_active_parameters": Column("active\nper sample", count, absent=NOT_RECORDED),
    "flops": Column("FLOPs per\nsample", count, absent=NOT_RECORDED),
    "training_flops": Column("training\nFLOPs", prefixed, absent=NOT_RECORDED),
    "n_iterations": Column("iterations", count, absent=NOT_RECORDED),
    "train_seconds": Column("training\nseconds", seconds, absent=NOT_RECORDED),
    "eval_seconds": Column("evaluation\nseconds", seconds, absent=NOT_RECORDED),
    "iterations_per_second": Column("iterations\n/ second", count, absent=NOT_RECORDED),
    "peak_memory_bytes": Column("peak\nmemory", size, absent=NOT_RECORDED),
    "strategy_state_bytes": Column("strategy\nmemory", size, absent=NOT_RECORDED),
}
"""What a run took, under the keys of its summary."""

SO_FAR: dict[str, dict[str, tuple[str, Callable[[Tensor], float]]]] = {
    "accuracy": {
        "accuracy_on_seen/test": ("accuracy", average_seen_accuracy),
        "forgetting/learning_accuracy": ("learning accuracy", learning_accuracy),
        "forgetting/forgetting": ("forgetting", forgetting),
    },
    "rmse": {
        "rmse_on_seen/test": ("RMSE", average_rmse),
        "forgetting/largest_rmse_increase": (
            "largest increase of an old one",
            largest_rmse_increase,
        ),
    },
}
"""What is told after each experience, by score: TensorBoard tag, words, metric."""


def so_far(matrix: Tensor, n: int, score: Score) -> Iterator[tuple[str, str, float]]:
    """Tag, words and value of each metric that is defined after ``n`` experiences."""
    for tag, (words, metric) in SO_FAR[score.name].items():
        try:
            yield tag, words, metric(matrix[: n + 1, :n])
        except UndefinedMetric:
            pass  # the run's summary says why
