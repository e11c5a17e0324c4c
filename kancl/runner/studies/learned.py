"""Figures of the functions that a regression's networks have learned."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kancl.config import RunConfig
from kancl.reporting.figures import LearnedFunction, learned_functions, phase_diagram
from kancl.runner.identity import run_folder
from kancl.runs.names import LEARNED_FUNCTION
from kancl.runs.reader import read_table


def draw_learned(
    name: str, runs: Mapping[str, tuple[RunConfig, float | None]]
) -> list[Path]:
    """Write figures into ``<log_dir>/<name>``; returns their paths.

    Args:
        runs: by label, a run and the largest increase of its error over all seeds; those
            that have learned no function are left out.
    """
    flat: list[LearnedFunction] = []
    deep: list[LearnedFunction] = []
    lines: dict[str, list[tuple[int, float]]] = {}
    levels: dict[str, float] = {}
    folder = Path(name)
    for label, (config, worst) in runs.items():
        folder = Path(config.log_dir) / name
        path = run_folder(config)
        if worst is None or not (path / LEARNED_FUNCTION).is_file():
            continue
        function = read_learned(path, label, f"old error +{worst:.1g}")
        if function.points.shape[1] > 1:
            deep.append(function)
            continue
        size, degree = (config.model.options.get(k) for k in ("grid_size", "degree"))
        if degree in (None, 3):
            flat.append(function)
        if size is None or config.model.options["base"]:
            levels[label] = worst
        else:
            lines.setdefault(f"degree {degree}", []).append((size, worst))
    figures = {}
    if flat:
        figures["learned_functions"] = learned_functions(flat)
    if deep:
        title = "two inputs: blue is 1, red is -1"
        figures["learned_functions_2d"] = learned_functions(deep, title)
    if lines:
        figures["phase_diagram"] = phase_diagram(lines, levels)
    if figures:
        folder.mkdir(parents=True, exist_ok=True)
    for stem, figure in figures.items():
        figure.savefig(folder / f"{stem}.png")
    return [folder / f"{stem}.png" for stem in figures]


def read_learned(folder: Path, label: str, note: str = "") -> LearnedFunction:
    """What a run folder keeps of the function learned."""
    header, rows = read_table(folder / LEARNED_FUNCTION)
    n_inputs, columns = header.index("target"), rows.T
    points, target, *functions = columns[:n_inputs].T, *columns[n_inputs:]
    return LearnedFunction(label, points, target, functions, note)
