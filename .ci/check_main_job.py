"""Check what the main job wrote: ``python .ci/check_main_job.py logs``."""

import csv
import json
import math
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def check_run(folder: Path) -> dict[str, float]:
    """Read one run folder back and hold it against what the README promises."""
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "completed", summary
    assert summary["learning_accuracy"] >= 0.95, summary["learning_accuracy"]
    assert 0.15 <= summary["average_accuracy"] <= 0.25, summary["average_accuracy"]
    with open(folder / "accuracy_matrix.csv", newline="") as file:
        rows = list(csv.reader(file))
    matrix = [[float(cell) for cell in row[-5:]] for row in rows[-6:]]
    assert len(matrix) == 6 and all(0 <= a <= 1 for row in matrix for a in row), rows
    mean = sum(matrix[-1]) / 5
    assert math.isclose(mean, summary["average_accuracy"], abs_tol=1e-6), matrix
    for name in ("config.yaml", "env.json", "metrics.csv"):
        assert (folder / name).stat().st_size > 0, name
    events = EventAccumulator(str(folder)).Reload()
    assert events.Tags()["scalars"] and events.Tags()["images"], events.Tags()
    return summary


def main(logs: Path) -> None:
    """Check the KAN's run and the MLP's, and that they are of equal size."""
    runs = {
        model: check_run(next(logs.glob(f"split_mnist-class/{model}-naive/seed0-*")))
        for model in ("kan", "mlp")
    }
    sizes = [run["n_parameters"] for run in runs.values()]
    assert max(sizes) <= 1.02 * min(sizes), sizes
    for model, run in runs.items():
        print(
            f"{model}: average {run['average_accuracy']:.4f}, learning "
            f"{run['learning_accuracy']:.4f}, {run['n_parameters']} parameters"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
