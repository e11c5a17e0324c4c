"""What a finished run forgot, by which parameters, and whether that could be foreseen."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
from avalanche.models import avalanche_forward
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from kancl.config import ConfigError
from kancl.data.rows import as_tensors
from kancl.metrics.forecast import falls
from kancl.metrics.locality import AT_ONCE, forecast_quality, leak_of_layer
from kancl.metrics.rollback import Rollback, rollback, rolled_back
from kancl.metrics.score_matrix import UndefinedMetric
from kancl.models.inspect import layer_weights, named_layers
from kancl.observe.snapshots import LOCALITY, VIEWS
from kancl.reporting import wide_console
from kancl.reporting.figures import as_pixels
from kancl.runner.build import Parts, build, build_benchmark
from kancl.runner.diagnosis import locality_figures
from kancl.runner.request.compose import read_folder
from kancl.runs.names import CONFIG, LOCALITY_ARRAYS, SNAPSHOTS
from kancl.runs.reader import read_measurements, read_snapshots

WORTHLESS = 0.3
"""A rank correlation below this foretells next to nothing: its square is under 0.1."""
ROUNDING = 1e-6


@dataclass(frozen=True)
class Finding:
    """What is known of a run, before it is put into words.

    Args:
        matrix: of accuracies or errors, ``(N + 1, N)``.
        rollbacks: of each experience but the last, on its test images.
        forecasts: by view and layer, ``exposure_layer_1``: rank correlation with what
            each training took from each earlier experience.
        overlaps: by view and layer, that of each pair (old, new; 0-based).
        leak: the largest move of a first layer's coefficient that no training sample of
            the experience touched.
        inference: the last ``right_experience`` and the like, if class-incremental.
    """

    title: str
    score: str
    matrix: Tensor
    rollbacks: Sequence[Rollback]
    forecasts: Mapping[str, float]
    overlaps: Mapping[str, Mapping[tuple[int, int], float]]
    leak: float
    inference: Mapping[str, float]

    @property
    def rises(self) -> bool:
        return self.score == "accuracy"


def diagnose(
    folder: Path | str, *, samples: int | None = None, console: Console | None = None
) -> Finding:
    """Read a run folder, go back to its states and print what was forgotten, and why.

    Args:
        samples: test images of each experience to roll back on; None: all, on which
            putting everything back gives exactly the accuracy of then.

    Raises: ConfigError for a folder that holds no completed run with its states.
    """
    (finding,) = diagnose_all([folder], samples=samples, console=console)
    return finding


def diagnose_all(
    folders: Sequence[Path | str],
    *,
    samples: int | None = None,
    console: Console | None = None,
) -> list[Finding]:
    """``diagnose`` each; of several, how well overlap foretold over all their pairs.

    Args, Raises: as ``diagnose``. All folders are looked into before a word is printed.
    """
    findings = [look_into(Path(folder), samples) for folder in folders]
    for folder, finding in zip(folders, findings):
        _say(finding, Path(folder), console)
    if len(findings) > 1:
        _print(_foreseen_over(findings), console)
    return findings


def pooled_forecasts(
    findings: Sequence[Finding],
) -> dict[str, tuple[int, float | None]]:
    """By view and layer that all runs have: how many pairs, and the rank correlation of
    overlap with what training took, over the pairs of all runs; None if undefined.

    Pairs of one run share its trainings: they are no independent draws.
    """
    taken = [falls(finding.matrix, finding.rises) for finding in findings]
    common = set.intersection(*(set(finding.overlaps) for finding in findings))
    pooled: dict[str, tuple[int, float | None]] = {}
    for name in findings[0].overlaps:
        if name not in common:
            continue
        both = [
            (value, fall[pair])
            for finding, fall in zip(findings, taken)
            for pair, value in finding.overlaps[name].items()
            if pair in fall
        ]
        overlaps, losses = [b[0] for b in both], [b[1] for b in both]
        try:
            pooled[name] = len(both), forecast_quality(overlaps, losses)
        except UndefinedMetric:
            pooled[name] = len(both), None
    return pooled


def draw(folder: Path) -> Path:
    """Draw the pictures of a run's locality into ``<folder>/locality``."""
    config = read_folder(folder, ["device=cpu"])
    shape = build_benchmark(config, torch.device("cpu")).info.image_shape
    pictures = folder / "locality"
    pictures.mkdir(exist_ok=True)
    with np.load(folder / LOCALITY_ARRAYS, allow_pickle=False) as arrays:
        figures = locality_figures(arrays, read_measurements(folder), shape)
    with SummaryWriter(str(pictures)) as writer:
        for name, figure in figures.items():
            figure.savefig(pictures / f"{name}.png")
            pixels = as_pixels(figure)
            writer.add_image(f"picture/{name}", pixels, dataformats="HWC")
    return pictures


def look_into(folder: Path, samples: int | None = None) -> Finding:
    """As ``diagnose``, without a word."""
    if not (folder / CONFIG).is_file():
        raise ConfigError(
            f"there is no run in {folder}: kancl locality takes a run folder, which holds "
            "config.yaml; kancl run evaluation.locality=true makes one"
        )
    config = read_folder(folder, ["device=cpu"])
    path = folder / SNAPSHOTS
    again = f"kancl run --from {folder} evaluation.locality=true"
    if not path.is_file():
        raise ConfigError(
            f"{folder} keeps no states to go back to ({SNAPSHOTS}): it was run without "
            f"evaluation.locality; {again} makes a run that does"
        )
    try:
        states = read_snapshots(folder)
    except Exception as error:
        raise ConfigError(f"{path} cannot be read ({error}); {again}") from error
    measurements = read_measurements(folder)
    parts = build(config)
    info = parts.benchmark.info
    matrix = _matrix(folder / f"{info.score.name}_matrix.csv", info.n_experiences)
    if len(states) <= info.n_experiences:
        raise ConfigError(
            f"{folder} ended after {len(states) - 1} of {info.n_experiences} experiences: "
            f"there is no whole run to look into; {again}"
        )
    named = {m.name.removeprefix(LOCALITY): m for m in measurements}
    forecasts = {
        name.removeprefix("forecast_"): m.value
        for name, m in named.items()
        if name.startswith("forecast_")
    }
    overlaps: dict[str, dict[tuple[int, int], float]] = {}
    for m in measurements:
        pair = re.fullmatch(rf"{LOCALITY}(.+)_before_(\d+)", m.name)
        if pair and pair[1].startswith(VIEWS) and m.experience is not None:
            of_view = overlaps.setdefault(pair[1], {})
            of_view[m.experience, int(pair[2]) - 1] = m.value
    inference = {k: m.value for k, m in named.items() if k.startswith("right_")}
    model = _at(parts.model, states[-1])
    return Finding(
        title=f"{config.model.name}-{config.strategy.name} on {config.scenario.name}, "
        f"seed {config.seed}",
        score=info.score.name,
        matrix=matrix,
        rollbacks=_rollbacks(parts, model, states, samples),
        forecasts=forecasts,
        overlaps=overlaps,
        leak=_leak(parts, states),
        inference=inference,
    )


def _rollbacks(
    parts: Parts, model: nn.Module, states: Sequence[Any], samples: int | None
) -> list[Rollback]:
    score = parts.benchmark.info.score
    found = []
    for k, experience in enumerate(list(parts.benchmark.test_stream)[:-1]):
        x, y, labels = as_tensors(experience.dataset, samples)

        @torch.no_grad()
        def evaluate(network: nn.Module) -> float:
            batches = zip(x.split(AT_ONCE), labels.split(AT_ONCE))
            outputs = [avalanche_forward(network, *batch) for batch in batches]
            each = score.per_sample(torch.cat(outputs), y)
            return float(score.reduce(each.double().mean()))

        found.append(rollback(model, states[k + 1], evaluate))
    return found


def _at(model: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    model.load_state_dict(dict(state))
    return model.eval()


@torch.no_grad()
def _leak(parts: Parts, states: Sequence[Any]) -> float:
    """Of the first layer, whose inputs no training changes."""
    largest = 0.0
    for k, experience in enumerate(parts.benchmark.train_stream):
        before, after = (
            rolled_back(parts.model, s, s.keys()) for s in (states[k], states[k + 1])
        )
        layer, new = (next(iter(named_layers(m).values()))[0] for m in (before, after))
        if layer_weights(layer).shape != layer_weights(new).shape:
            continue  # the grid grew: no coefficient is what it was
        x = as_tensors(experience.dataset)[0].flatten(1)
        moved = leak_of_layer(layer, x, layer_weights(layer), layer_weights(new))
        largest = max(largest, moved)
    return largest


def _matrix(path: Path, n: int) -> Tensor:
    if not path.is_file():
        raise ConfigError(f"there is no {path}: the run did not end; run it again")
    rows = [line.split(",")[1:] for line in path.read_text().splitlines()[1:]]
    values = [[float(cell or "nan") for cell in row] for row in rows]
    matrix = torch.tensor(values, dtype=torch.float64)
    if matrix.shape != (n + 1, n):
        raise ConfigError(f"{path} is not that of {n} experiences; run it again")
    return matrix


# in words and numbers


def _say(finding: Finding, folder: Path, console: Console | None) -> None:
    parts = [_forgotten(finding), *_carriers(finding), *_foreseen(finding)]
    _print([*parts, f"pictures: {draw(folder)}"], console)


def _print(parts: Sequence[Table | str], console: Console | None) -> None:
    out = wide_console(console)
    for part in parts:
        out.print(part, highlight=False, soft_wrap=isinstance(part, str), markup=False)


def _forgotten(finding: Finding) -> Table:
    """What was lost, and to whom most of it."""
    n = finding.matrix.shape[1]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=f"What {finding.title} forgot")
    for title in ("experience", "just trained", "at the end", "lost", "most to"):
        table.add_column(title, justify="left" if title in ("most to",) else "right")
    taken = falls(finding.matrix, finding.rises)
    for s in range(n):
        then, now = finding.matrix[s + 1, s].item(), finding.matrix[-1, s].item()
        by = {t: fall for (old, t), fall in taken.items() if old == s and fall > 0}
        lost = then - now if finding.rises else now - then
        cells = [_number(finding, value) for value in (then, now, lost)]
        worst = max(by, key=lambda t: by[t], default=None)
        most = (
            ""
            if worst is None
            else (f"experience {worst + 1} ({_number(finding, by[worst])})")
        )
        table.add_row(str(s + 1), *cells, most)
    return table


def _carriers(finding: Finding) -> list[Table | str]:
    """Which group of parameters, put back alone, brings it back."""
    groups = [g for g in finding.rollbacks[0].regained if g != "all"]
    what = finding.score if finding.rises else finding.score.upper()
    title = f"{what} with one group of parameters put back"
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title)
    for column in ("experience", "nothing", *groups, "all"):
        table.add_column(column.replace("_", " "), justify="right")
    for k, back in enumerate(finding.rollbacks):
        values = [back.now, *(back.regained[g] for g in groups), back.then]
        cells = [_number(finding, value) for value in values]
        table.add_row(str(k + 1), *cells)
    lost = {k: b for k, b in enumerate(finding.rollbacks) if abs(b.forgotten) >= 0.005}
    if not lost:
        return [table, "Nothing was forgotten: no group of parameters has to answer."]
    total = sum(b.forgotten for b in lost.values())
    shares = {
        group: sum(b.regained[group] - b.now for b in lost.values()) / total
        for group in groups
    }
    words = ", ".join(
        f"{group.replace('_', ' ')} {share:.0%}" for group, share in shares.items()
    )
    best = max(shares, key=lambda group: shares[group])
    lines: list[Table | str] = [
        table,
        f"Of what was forgotten, putting one group back alone brings back: {words}.",
        f"It sits in {best.replace('_', ' ')} more than anywhere else. (Groups overlap "
        "and act together: shares need not add up to 100 %.)",
    ]
    if finding.inference:
        told = finding.inference
        lines.append(
            f"At the end the right experience wins {told['right_experience']:.0%} of "
            f"the time, and then the right class {told['right_within']:.0%}; told the "
            f"experience, {told['right_if_told']:.0%} are right."
        )
    apart = max(
        abs(back.then - finding.matrix[k + 1, k].item())
        for k, back in enumerate(finding.rollbacks)
    )
    if apart <= ROUNDING:
        exactly = "exactly" if apart == 0 else "to rounding"
        lines.append(
            f"All put back: {exactly} the values of then, for every experience."
        )
    still = (
        "no coefficient moved"
        if finding.leak == 0
        else (f"coefficients moved by up to {finding.leak:.2g}")
    )
    lines.append(f"Where no training sample was, in the first layer, {still}.")
    return lines


def _foreseen(finding: Finding) -> list[Table | str]:
    """Whether overlap, known before, ranks what each training took."""
    n = finding.matrix.shape[1]
    pairs = n * (n - 1) // 2
    table = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        title="What did overlap foretell?",
    )
    for column in ("overlap", "layer", "mean", "rank correlation"):
        table.add_column(column, justify="left" if column != "mean" else "right")
    for name, pairs_of_view in finding.overlaps.items():
        view = next(v for v in VIEWS if name.startswith(v))
        layer = name.removeprefix(f"{view}_").replace("_", " ")
        rank = finding.forecasts.get(name)
        shown = "n/a (too few pairs, or all alike)" if rank is None else f"{rank:+.2f}"
        mean = f"{fmean(pairs_of_view.values()):.2f}"
        table.add_row(view.replace("_", " "), layer, mean, shown)
    if not finding.forecasts:
        return [table, f"{pairs} pairs: no rank correlation can be told."]
    best = max(finding.forecasts, key=lambda name: finding.forecasts[name])
    middle = median(finding.forecasts.values())
    verdict = (
        "foretold some of it"
        if middle >= WORTHLESS
        else (
            "did not foretell who would lose most: its rank correlations are near 0"
            if abs(middle) < WORTHLESS
            else "foretold the contrary: where it was larger, less was lost"
        )
    )
    return [
        table,
        f"Overlap, known before each training, {verdict}. Median of "
        f"{len(finding.forecasts)} rank correlations with what that training took: "
        f"{middle:+.2f}; the best, picked with hindsight: {best.replace('_', ' ')} "
        f"{finding.forecasts[best]:+.2f}; over {pairs} pairs of one run.",
    ]


def _foreseen_over(findings: Sequence[Finding]) -> list[Table | str]:
    """The same over the pairs of several runs together."""
    pooled = pooled_forecasts(findings)
    if not pooled:
        return ["These runs have no overlap in common: nothing to pool."]
    n_runs = len(findings)
    title = f"What did overlap foretell, over the pairs of {n_runs} runs?"
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title)
    for column in ("overlap", "layer", "pairs", "rank correlation"):
        table.add_column(column, justify="right" if column == "pairs" else "left")
    for name, (n_pairs, rank) in pooled.items():
        view = next(v for v in VIEWS if name.startswith(v))
        layer = name.removeprefix(f"{view}_").replace("_", " ")
        shown = "n/a (all alike)" if rank is None else f"{rank:+.2f}"
        table.add_row(view.replace("_", " "), layer, str(n_pairs), shown)
    known = [rank for _, rank in pooled.values() if rank is not None]
    if not known:
        return [table]
    return [table, f"Median of {len(known)} rank correlations: {median(known):+.2f}."]


def _number(finding: Finding, value: float) -> str:
    return f"{100 * value:.1f} %" if finding.rises else f"{value:.2g}"
