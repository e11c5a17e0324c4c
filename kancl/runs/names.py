"""Names of files, columns and keys in run folders; they stand nowhere else."""

from __future__ import annotations

# a run folder

SUMMARY = "summary.json"
CONFIG = "config.yaml"
ENVIRONMENT = "env.json"
METRICS = "metrics.csv"
MODEL = "model.pt"
ERROR = "error.txt"
LEARNED_FUNCTION = "learned_function.csv"
LEARNED_FUNCTION_PICTURE = "learned_function.png"
LOCALITY_ARRAYS = "locality.npz"
SNAPSHOTS = "snapshots.pt"
CHECKPOINTS = "checkpoint"
"""Folder of the states to resume from."""
CHECKPOINT_SUFFIX = ".ckpt"
LOCK = ".lock"
EVENTS = "events.out.*"
"""Pattern of TensorBoard's files."""
PARTS = ".*.part"
"""Pattern of files that are being written."""

SCORES = ("accuracy", "rmse")


def matrix_file(score: str) -> str:
    """Row r: after r experiences; column j: ``score`` on experience j."""
    return f"{score}_matrix.csv"


FILES = (
    SUMMARY,  # first to go, last to come: it says whether the rest is complete
    CONFIG,
    ENVIRONMENT,
    *map(matrix_file, (*SCORES, "validation")),
    LEARNED_FUNCTION,
    LEARNED_FUNCTION_PICTURE,
    LOCALITY_ARRAYS,
    SNAPSHOTS,
    METRICS,
    MODEL,
    ERROR,
)
"""Everything that a run writes beside events and checkpoints."""

# the folder of all runs

SWEEPS = "sweeps"
"""Lists of the runs of each sweep."""
TRIALS = "tuned"
"""Runs that chose settings; they are no results."""
COMPARISONS = "comparisons"

# columns and keys

METRICS_COLUMNS = ("iteration", "experience", "name", "value")
LOSS = "batch_loss"
"""Training loss in metrics.csv; its last row ends the training of an experience."""
CURVE, RMSE_CURVE = "curve_accuracy", "curve_rmse"
"""Forgetting curves in metrics.csv: of classes, of a regression."""
TEST_ACCURACY, TEST_RMSE = "test_accuracy", "test_rmse"

ENDINGS = ("completed", "diverged", "failed")
"""``status`` in summary.json."""
RESUMED = "resumed_at_iterations"
"""Key of env.json."""
IDENTITY = frozenset(
    "scenario n_experiences model strategy optimizer seed head match n_parameters "
    "n_active_parameters flops n_iterations".split()
)
"""Keys that the summary of every completed run has."""
