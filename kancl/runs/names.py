"""Names of files, columns and keys in run folders; they stand nowhere else."""

import re

# a run folder

SUMMARY, CONFIG, ENVIRONMENT = "summary.json", "config.yaml", "env.json"
METRICS, MODEL, ERROR = "metrics.csv", "model.pt", "error.txt"
SNAPSHOTS, LOCALITY_ARRAYS = "snapshots.pt", "locality.npz"
LOCALITY = "locality"  # folder of kancl locality's pictures
LEARNED_FUNCTION = "learned_function.csv"
LEARNED_FUNCTION_PICTURE = "learned_function.png"
LOCK, MACHINE_LOCK, LOCK_TURN = LOCKS = ".lock", ".lock.machine", ".lock.turn"
EVENTS, PARTS = "events.out.*", ".*.part"
"""Patterns of TensorBoard's files, and of files that are being written."""
CHECKPOINTS, CHECKPOINT = "checkpoint", "*.ckpt"
BOUNDARY, INSIDE = "experience-*.ckpt", "iteration-*.ckpt"
"""Folder and files of checkpoints: at an experience boundary, inside an experience."""
REPLACEMENT, WHOLE = ".replacement", ".whole"
"""Folder of files that are to take the place of finished ones; there, their list."""
WANDB = "wandb"
"""Folder of Weights & Biases, whose files are no run's own."""
SCORES = ("accuracy", "rmse")


def matrix_file(score: str) -> str:
    """Row r: after r experiences; column j: ``score`` on experience j."""
    return f"{score}_matrix.csv"


def forecast_row(kind: str, what: str, new: int) -> str:
    """Name of a forecast of what training on an experience, 0-based, takes from others."""
    return f"{FORECAST}_{kind}_{what}_before_{new + 1}"


FILES: tuple[str, ...] = (
    *(SUMMARY, CONFIG, ENVIRONMENT, *map(matrix_file, (*SCORES, "validation"))),
    *(LEARNED_FUNCTION, LEARNED_FUNCTION_PICTURE, LOCALITY_ARRAYS, SNAPSHOTS),
    *(METRICS, MODEL, ERROR),
)
"""Everything that a run writes beside events and checkpoints. The summary is the first to
go and the last to come: it says whether the rest is complete."""
OWNED = (*FILES, PARTS, EVENTS, f"*/{EVENTS}", f"{WANDB}/*")  # as delete takes them
KEPT = f"{CHECKPOINTS}/{CHECKPOINT}"
"""Patterns of these and of all else in a run folder that kancl writes and deletes."""

# the folder of all runs

LOGS = "logs"
SWEEPS, TRIALS, COMPARISONS = "sweeps", "tuned", "comparisons"
"""Lists of the runs of each sweep, in folders of earlier versions; runs that chose
settings; of each comparison the list of its runs, tables and figures."""
RUNS = "runs.json"
"""In the folder of a comparison: which runs it consists of, by their paths in log_dir."""
MLFLOW = "mlruns"
"""MLflow's files."""
NO_RUNS = frozenset({WANDB, REPLACEMENT})
"""Folders that hold no finished runs, whatever files are in them."""


def clean(text: str, most: int) -> str:
    """Text as a part of a folder's name: ``hidden=64x64`` for ``hidden=[64,64]``."""
    text = re.sub(r"[\[\]'\"]", "", text.replace(",", "x"))
    return re.sub(r"[^A-Za-z0-9.=+_-]+", "_", text).strip("._-")[:most]


# columns and keys

EXPERIENCE = "experience_"
"""With its number, from 1: an experience in tables and in TensorBoard."""
METRICS_COLUMNS = ("iteration", "experience", "name", "value")
LOSS = "batch_loss"  # of training; its last row ends that of an experience
FORECAST = "forecast"
CURVE, RMSE_CURVE = "curve_accuracy", "curve_rmse"
TEST_RMSE = "test_rmse"

ENDINGS = ("completed", "diverged", "failed")  # ``status`` in summary.json
RESUMED = "resumed_at_iterations"  # key of env.json
OWN, SETTINGS = "own", "settings"
"""Keys of env.json: digests of code and data of one's own, and of all else that decides
what the run is.
"""
IDENTITY: dict[str, type] = {
    **dict.fromkeys("scenario model strategy optimizer head match".split(), str),
    **dict.fromkeys("n_experiences seed n_parameters n_active_parameters".split(), int),
    **{"flops": int, "n_iterations": int, "undefined": dict},
}
"""Keys that the summary of every completed run has, and what they hold."""
