"""Everything to check on a device, in one table: ``kancl bench device``.

Equality with the CPU in float64, gradients, time and memory of a training step beside
the MLP with as many parameters, determinism, every strategy under every head, and a
full Split MNIST run. ``--small`` cuts all of it to what a CPU does in seconds, so that
the script cannot rot where there is no GPU. A check that fails makes the exit code 1.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from kancl import KAN, MLP
from kancl.models.cost import n_parameters
from kancl.models.matching import match_hidden
from kancl.runner import read_request, run
from kancl.strategies import STRATEGIES, check_pair

TOLERANCE = 1e-5
"""Largest error of outputs and gradients in float32, relative to the largest entry."""


class Report:
    """Rows of the table: what was checked, what came out, whether it holds."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.rows: list[tuple[str, str, bool | None]] = []

    def add(self, check: str, result: str, holds: bool | None = None) -> None:
        """Add a row and print it; ``holds`` None marks a figure without a bound."""
        self.rows.append((check, result, holds))
        mark = {True: "ok", False: "FAILED", None: ""}[holds]
        print(f"{check:<62} {result:<44} {mark}", flush=True)

    @property
    def failed(self) -> list[str]:
        return [check for check, _, holds in self.rows if holds is False]


def check_equality(report: Report, small: bool) -> None:
    """Outputs and gradients on the device against float64 on the CPU."""
    layers = [20, 7, 5] if small else [784, 64, 10]
    for degree, grid_size in itertools.product((1, 3, 5), (5, 20, 64)):
        torch.manual_seed(0)
        exact = KAN(layers, grid_size=grid_size, spline_order=degree).double()
        x = torch.empty(32, layers[0], dtype=torch.float64).uniform_(-1.3, 1.3)
        x[0, :3] = torch.tensor([-1.0, 0.0, 1.0])
        single = KAN(layers, grid_size=grid_size, spline_order=degree)
        single.load_state_dict(exact.state_dict())
        error = max(
            _relative_error(ours, theirs)
            for ours, theirs in zip(
                _outputs_and_gradients(single.to(report.device), x.float()),
                _outputs_and_gradients(exact, x),
            )
        )
        name = f"float32 against CPU float64, degree {degree}, G {grid_size}"
        report.add(name, f"largest relative error {error:.1e}", error <= TOLERANCE)


def _outputs_and_gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.to(next(model.parameters()).device).requires_grad_()
    output = model(x)
    weights = torch.linspace(-1, 1, output.numel(), dtype=x.dtype, device=x.device)
    loss = (output * weights.view_as(output)).sum()
    return [output, *torch.autograd.grad(loss, [x, *model.parameters()])]


def _relative_error(ours: Tensor, exact: Tensor) -> float:
    difference = (ours.detach().cpu().double() - exact.detach()).abs().max()
    return (difference / exact.detach().abs().max().clamp_min(1e-30)).item()


def check_gradients(report: Report) -> None:
    """First and second derivatives by finite differences, on the device."""
    torch.manual_seed(0)
    model = KAN([3, 2, 2], grid_size=4).double().to(report.device)
    x = torch.empty(4, 3, dtype=torch.float64, device=report.device)
    x = x.uniform_(-1.2, 1.2).requires_grad_()
    report.add("gradcheck", "float64", torch.autograd.gradcheck(model, x))
    report.add("gradgradcheck", "float64", torch.autograd.gradgradcheck(model, x))


def measure_steps(report: Report, small: bool) -> None:
    """Time and peak memory of forward, backward and Adam, interleaved with the MLP."""
    layers = [20, 8, 5] if small else [784, 64, 10]
    sizes = (64,) if small else (64, 256, 1024)
    for batch, grid_size in itertools.product(sizes, (5, 20, 64)):
        torch.manual_seed(0)
        kan = KAN(layers, grid_size=grid_size, enable_standalone_scale_spline=False)
        hidden = match_hidden(
            lambda widths: MLP([layers[0], *widths, layers[-1]]),
            1,
            n_parameters(kan),
            "params",
        )
        mlp = MLP([layers[0], *hidden, layers[-1]])
        x = torch.rand(batch, layers[0], device=report.device)
        y = torch.randint(layers[-1], (batch,), device=report.device)
        steps = {
            name: _training_step(model.to(report.device), x, y)
            for name, model in (("kan", kan), ("mlp", mlp))
        }
        seconds, memory = _interleaved(steps, report.device, rounds=5 if small else 15)
        ratio = statistics.median(k / m for k, m in zip(seconds["kan"], seconds["mlp"]))
        milliseconds = 1e3 * statistics.median(seconds["kan"])
        result = f"{milliseconds:.3f} ms, {ratio:.2f} x the equal MLP's"
        if memory:
            result += f", {memory['kan'] / memory['mlp']:.2f} x its memory"
        report.add(f"training step, batch {batch}, G {grid_size}", result)


def _training_step(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def _interleaved(
    steps: dict[str, Callable[[], None]], device: torch.device, rounds: int
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Seconds per step in each round, and peak bytes where the device counts them."""
    n_steps = 20
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    memory: dict[str, int] = {}
    for round_ in range(rounds + 1):
        for name, step in steps.items():
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            held = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
            start = _now(device)
            for _ in range(n_steps):
                step()
            elapsed = (_now(device) - start) / n_steps
            if round_:  # the first warms up
                seconds[name].append(elapsed)
                if device.type == "cuda":
                    peak = torch.cuda.max_memory_allocated(device) - held
                    memory[name] = max(memory.get(name, 1), peak)
    return seconds, memory


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def check_strategies(report: Report, small: bool, log_dir: Path) -> None:
    """Every strategy that goes with a head trains and evaluates, cut to seconds."""
    strategies = ("ewc", "replay") if small else tuple(STRATEGIES)
    models = ("kan",) if small else ("kan", "mlp")
    kinds = (
        ("class", "single"),
        ("class", "growing"),
        ("domain", "single"),
        ("task", "multi"),
    )
    for (incremental, head), model in itertools.product(kinds, models):
        done: list[str] = []
        broken: list[str] = []
        start = _now(report.device)
        for strategy in strategies:
            try:
                check_pair(strategy, model=model, head=head, incremental=incremental)
            except ValueError:
                continue
            summary = _run(
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
                    f"device={report.device.type}",
                    f"log_dir={log_dir}",
                ]
            )
            completed = summary["status"] == "completed"
            (done if completed else broken).append(strategy)
        result = f"{len(done)} trained in {_now(report.device) - start:.0f} s"
        if broken:
            result += f"; failed: {', '.join(broken)}"
        name = f"strategies, {model}, {incremental}-incremental, {head} head"
        report.add(name, result, not broken)


def check_runs(report: Report, small: bool, log_dir: Path) -> None:
    """Full Split MNIST runs: the same bytes twice, accuracy, seconds."""
    cut = ["scenario.train_samples=500", "scenario.test_samples=200"] if small else []
    for model in ("kan", "mlp"):
        twice = [
            _run(
                [
                    f"model={model}",
                    "match=params",
                    "training.batch_size=64",
                    f"device={report.device.type}",
                    f"log_dir={log_dir / str(attempt)}",
                    *cut,
                ]
            )
            for attempt in range(2)
        ]
        errors = [run["error"] for run in twice if run["status"] != "completed"]
        if errors:
            report.add(f"Split MNIST, {model}", errors[0], False)
            continue
        matrices = [
            next((log_dir / str(attempt)).rglob(f"{model}-*/*/accuracy_matrix.csv"))
            for attempt in range(2)
        ]
        same = matrices[0].read_bytes() == matrices[1].read_bytes()
        report.add(f"Split MNIST, {model}: accuracy matrix twice", "same bytes", same)
        last = twice[1]
        report.add(
            f"Split MNIST, {model}: average / learning accuracy",
            f"{last['average_accuracy']:.4f} / {last['learning_accuracy']:.4f}",
            None if small else last["learning_accuracy"] >= 0.95,
        )
        report.add(
            f"Split MNIST, {model}: seconds of training / of evaluation",
            f"{last['train_seconds']:.2f} / {last['eval_seconds']:.2f}",
        )


def _run(overrides: Sequence[str]) -> dict[str, Any]:
    (config,) = read_request(overrides, sweep=False).configs
    return run(config, quiet=True)


def bench_device(device: torch.device, small: bool) -> Report:
    """Run every check on ``device`` and return the table."""
    report = Report(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    report.add("device", f"{name}, torch {torch.__version__}")
    check_equality(report, small)
    check_gradients(report)
    measure_steps(report, small)
    with tempfile.TemporaryDirectory() as folder:
        check_runs(report, small, Path(folder) / "runs")
        check_strategies(report, small, Path(folder) / "strategies")
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; exit code 1 if a check fails."""
    parser = argparse.ArgumentParser(prog="kancl bench device", description=__doc__)
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cpu", "cuda"), default=default)
    parser.add_argument("--small", action="store_true", help="seconds on a CPU")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args(argv)
    report = bench_device(torch.device(options.device), options.small)
    table = Table(title="kancl bench device")
    for column in ("check", "result", "holds"):
        table.add_column(column)
    for check, result, holds in report.rows:
        table.add_row(check, result, {True: "yes", False: "NO", None: ""}[holds])
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(report.rows, indent=1))
    return 1 if report.failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
