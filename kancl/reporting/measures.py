"""What runs are judged by and what they cost: what each number is called and how shown."""

from collections.abc import Callable, Iterator
from contextlib import suppress

from torch import Tensor

from kancl.metrics import score_matrix as scores
from kancl.metrics.score_matrix import Score
from kancl.reporting import table
from kancl.reporting.table import Column, count, percent, rounded

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
    key: Column(title, show, absent=NOT_RECORDED)
    for key, title, show in (
        ("n_parameters", "parameters", count),
        ("n_active_parameters", "active\nper sample", count),
        ("flops", "FLOPs per\nsample", count),
        ("training_flops", "training\nFLOPs", table.prefixed),
        ("n_iterations", "iterations", count),
        ("train_seconds", "training\nseconds", table.seconds),
        ("eval_seconds", "evaluation\nseconds", table.seconds),
        ("iterations_per_second", "iterations\n/ second", count),
        ("peak_memory_bytes", "peak\nmemory", table.size),
        ("strategy_state_bytes", "strategy\nmemory", table.size),
    )
}
"""What a run took, under the keys of its summary."""

SO_FAR: dict[str, dict[str, tuple[str, Callable[[Tensor], float]]]] = {
    "accuracy": {
        "after_each_experience/average_accuracy": (
            "accuracy",
            scores.average_seen_accuracy,
        ),
        "after_each_experience/learning_accuracy": (
            "learning accuracy",
            scores.learning_accuracy,
        ),
        "after_each_experience/forgetting": ("forgetting", scores.forgetting),
    },
    "rmse": {
        "after_each_experience/average_rmse": ("RMSE", scores.average_rmse),
        "after_each_experience/largest_rmse_increase": (
            "largest increase of an old one",
            scores.largest_rmse_increase,
        ),
    },
}
"""What is told after each experience, by score: TensorBoard tag, words, metric."""


def so_far(matrix: Tensor, n: int, score: Score) -> Iterator[tuple[str, str, float]]:
    """Tag, words and value of each metric that is defined after ``n`` experiences."""
    for tag, (words, metric) in SO_FAR[score.name].items():
        with suppress(scores.UndefinedMetric):  # the run's summary says why
            yield tag, words, metric(matrix[: n + 1, :n])
