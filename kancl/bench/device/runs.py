"""Whole runs on the device: Split MNIST in full, and every strategy under every head."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kancl.bench.device.layers import implementations
from kancl.bench.device.report import Report

LONGEST = 5.0
"""Seconds at most of a Split MNIST run after start-up: 5 experiences, 1 epoch each."""
SIZES = 64, 256  # of batches


def check_runs(report: Report) -> None:
    """Split MNIST runs: the same bytes twice, accuracy, seconds."""
    names = ("auto", *implementations(report))
    sides = itertools.product([("mlp", ""), *(("kan", name) for name in names)], SIZES)
    for (model, name), batch in [(("kan", "auto"), 64)] if report.small else sides:
        options = [f"training.batch_size={batch}", f"model={model}"]
        options += [f"model.implementation={name}"] if name else ["match=params"]
        with report.guarded(f"Split MNIST, {model} {name}, batch {batch}"):
            _check_run(report, f"Split MNIST, {model} {name}, batch {batch}", options)


def _check_run(report: Report, title: str, options: list[str]) -> None:
    cut = ["scenario.train_samples=100", "scenario.test_samples=50"]
    cut += ["evaluation.samples=0", "tensorboard=none"]
    with tempfile.TemporaryDirectory() as folder:
        twice, matrices = [], []
        for attempt in ("once", "again"):  # the first starts the device up
            log_dir = Path(folder) / attempt
            options = [*options, *(cut if report.small else [])]
            twice.append(_run(report, log_dir, options))
            if twice[-1]["status"] != "completed":
                report.add(title, twice[-1]["error"], "completed", False)
                return
            (matrix,) = log_dir.rglob("accuracy_matrix.csv")
            matrices.append(matrix.read_bytes())
    last = twice[1]
    same = matrices[0] == matrices[1]
    report.add(f"{title}: twice", "accuracy matrix", "same bytes", same)
    learned = last["learning_accuracy"]
    report.add(
        f"{title}: average / learning accuracy",
        f"{last['average_accuracy']:.4f} / {learned:.4f}",
        "learning >= 0.95",
        None if report.small else learned >= 0.95,
    )
    train, evaluation = last["train_seconds"], last["eval_seconds"]
    report.add(
        f"{title}: seconds",
        f"{train:.2f} of training, {evaluation:.2f} of evaluation",
        f"<= {LONGEST:g}",
        train + evaluation <= LONGEST if report.cuda else None,
    )


def check_strategies(report: Report) -> None:
    """Every strategy that goes with a head trains and evaluates, cut to seconds."""
    from kancl.strategies import STRATEGIES, check_pair

    strategies = ("ewc",) if report.small else tuple(STRATEGIES)
    models = ("kan",) if report.small else ("kan", "mlp")
    kinds = [
        ("class", "single"),
        ("class", "growing"),
        ("domain", "single"),
        ("task", "multi"),
    ]
    for (incremental, head), model in itertools.product(kinds, models):
        done: list[str] = []
        broken: list[str] = []
        start = report.now()
        for strategy in strategies:
            try:
                check_pair(strategy, model=model, head=head, incremental=incremental)
            except ValueError:
                continue
            with tempfile.TemporaryDirectory() as folder:
                summary = _run(
                    report,
                    Path(folder),
                    [
                        f"model={model}",
                        f"strategy={strategy}",
                        f"scenario.incremental={incremental}",
                        f"scenario.head={head}",
                        "scenario.train_samples=64",
                        "scenario.test_samples=32",
                        "training.batch_size=32",
                        "model.hidden=[8]",
                        "evaluation.samples=0",
                        "tensorboard=none",
                    ],
                )
            completed = summary["status"] == "completed"
            (done if completed else broken).append(strategy)
        result = f"{len(done)} trained in {report.now() - start:.0f} s"
        if broken:
            result += f"; failed: {', '.join(broken)}"
        name = f"strategies, {model}, {incremental}-incremental, {head} head"
        report.add(name, result, "none fails", not broken)


def _run(report: Report, log_dir: Path, options: Sequence[str]) -> dict[str, Any]:
    # Not above: it takes Avalanche, and all other checks do without.
    from kancl.runner import read_request, run

    where = [f"device={report.device.type}", f"log_dir={log_dir}"]
    (config,) = read_request([*options, *where], sweep=False).configs
    return run(config, quiet=True)
