"""Time and memory of a training step: forward, backward, Adam."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from kancl.bench.device.layers import batches, implementations, relative_error
from kancl.bench.device.report import Report
from kancl.models import KAN, MLP
from kancl.models.cost import match_hidden, n_parameters

SLOWEST = 1.5
"""Time of a KAN's step at most, of that of the MLP with as many parameters."""
WARM_UP = 3  # steps before a graph is recorded, as torch asks for


def measure_steps(report: Report) -> None:
    """Every implementation beside the MLPs of equal widths and of equal parameters."""
    layers = layer_sizes(report)
    names = implementations(report)
    for batch, grid_size in batches(report):
        models: dict[str, nn.Module] = {
            name: KAN(
                layers,
                grid_size,
                enable_standalone_scale_spline=False,
                implementation=name,
            )
            for name in names
        }
        models["same widths"] = MLP(layers)
        models["equal"] = MLP(equal_layers(models[names[0]], layers))
        x, y = samples(report, batch)
        steps = {
            name: training_step(model.to(report.device), x, y)
            for name, model in models.items()
        }
        seconds = interleaved(steps, report)
        memory = {name: _peak(step, report) for name, step in steps.items()}
        title = f"step, batch {batch}, G {grid_size}"
        ratios = {n: median_ratio(seconds[n], seconds["equal"]) for n in models}
        shown = ", ".join(
            f"{n} {1e3 * statistics.median(seconds[n]):.3f}" for n in steps
        )
        report.add(f"{title}: ms", shown)
        best = min(names, key=ratios.__getitem__)
        report.add(
            f"{title}: fastest KAN / equal MLP",
            f"{best} {ratios[best]:.2f}",
            f"<= {SLOWEST}",
            ratios[best] <= SLOWEST if report.cuda else None,
        )
        if report.cuda:
            shown = ", ".join(f"{n} {memory[n] / memory['equal']:.2f}" for n in names)
            report.add(f"{title}: peak memory / equal MLP's", shown)
        else:
            report.not_run(f"{title}: peak memory / equal MLP's", "needs CUDA")


def measure_graphs(report: Report) -> None:
    """The small network's whole step as one CUDA graph, beside the eager step."""
    check = "step as a CUDA graph, batch 64, G 5"
    target = f"same result, <= {SLOWEST}"
    if not report.cuda:
        report.not_run(check, "needs CUDA", target)
        return
    layers = layer_sizes(report)
    x, y = samples(report, 64)
    graphs: dict[str, Callable[[], None]] = {}
    mlp = MLP(equal_layers(KAN(layers), layers)).to(report.device)
    for name in implementations(report):
        models = [_seeded_kan(report, name) for _ in range(2)]
        graphs[name] = graphed(models[0].to(report.device), x, y)
        eager = training_step(models[1].to(report.device), x, y, capturable=True)
        for _ in range(10):
            graphs[name]()
        for _ in range(10 + WARM_UP):
            eager()
        error = max(map(relative_error, models[0].parameters(), models[1].parameters()))
        report.add(
            f"parameters after a graph's steps, {name}",
            f"largest relative difference from eager {error:.1e}",
            "<= 1e-04",
            error <= 1e-4,
        )
    graphs["equal"] = graphed(mlp, x, y)
    eager = training_step(mlp, x, y)
    seconds = interleaved(graphs | {"MLP eager": eager}, report)
    for name in implementations(report):
        ratio = median_ratio(seconds[name], seconds["equal"])
        of_eager = median_ratio(seconds[name], seconds["MLP eager"])
        report.add(
            f"{check}, {name} / equal MLP's graph",
            f"{1e3 * statistics.median(seconds[name]):.3f} ms, {ratio:.2f} "
            f"({of_eager:.2f} of the MLP's eager step)",
            f"<= {SLOWEST}",
            ratio <= SLOWEST,
        )


def measure_compiled(report: Report) -> None:
    """The dense path through ``torch.compile``: its speed, and whether it is equal."""
    check = "torch.compile of the dense step, batch 64, G 5"
    if not report.cuda:
        report.not_run(check, "needs CUDA", "equal to eager")
        return
    x, y = samples(report, 64)
    plain, compiled = (_seeded_kan(report, "dense").to(report.device) for _ in range(2))
    steps = {
        "eager": training_step(plain, x, y),
        "compiled": training_step(cast(nn.Module, torch.compile(compiled)), x, y),
    }
    for step in steps.values():
        for _ in range(5):
            step()
    error = max(map(relative_error, compiled.parameters(), plain.parameters()))
    seconds = interleaved(steps, report)
    ratio = median_ratio(seconds["compiled"], seconds["eager"])
    report.add(
        check,
        f"{ratio:.2f} of eager's time, relative difference {error:.1e}",
        "equal to eager",
        error <= 1e-3,
    )


def graphed(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    """Record ``training_step`` as a CUDA graph; returns what replays it.

    The ``WARM_UP`` steps before train, recording does not.
    """
    step = training_step(model, x, y, capturable=True)
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    replay: Callable[[], None] = graph.replay
    return replay


def training_step(
    model: nn.Module, x: Tensor, y: Tensor, capturable: bool = False
) -> Callable[[], None]:
    """Forward, cross-entropy, backward and fused Adam on fixed samples."""
    optimizer = torch.optim.Adam(model.parameters(), fused=True, capturable=capturable)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def interleaved(
    steps: dict[str, Callable[[], None]], report: Report
) -> dict[str, list[float]]:
    """Seconds per step in each round, all sides in turns."""
    n_rounds, n_steps = (1, 1) if report.small else (15, 20)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(n_rounds + 1):
        for name, step in steps.items():
            start = report.now()
            for _ in range(n_steps):
                step()
            elapsed = (report.now() - start) / n_steps
            if round_:  # the first warms up
                seconds[name].append(elapsed)
    return seconds


def median_ratio(ours: list[float], theirs: list[float]) -> float:
    """Median over rounds of one side's time by the other's."""
    return statistics.median(a / b for a, b in zip(ours, theirs))


def layer_sizes(report: Report) -> list[int]:
    return [3, 2, 2] if report.small else [784, 64, 10]


def equal_layers(kan: nn.Module, layers: list[int]) -> list[int]:
    """Those of the MLP with as many parameters."""

    def build(widths: object) -> MLP:
        return MLP([layers[0], *widths, layers[-1]])  # type: ignore[misc]

    return [layers[0], *match_hidden(build, 1, n_parameters(kan), "params"), layers[-1]]


def samples(report: Report, batch: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    layers = layer_sizes(report)
    x = torch.rand(batch, layers[0])
    y = torch.randint(layers[-1], (batch,))
    return x.to(report.device), y.to(report.device)


def _seeded_kan(report: Report, name: str) -> KAN:
    torch.manual_seed(1)
    return KAN(layer_sizes(report), implementation=name)  # type: ignore[arg-type]


def _peak(step: Callable[[], None], report: Report) -> int:
    """Bytes that a step needs beyond what is held before."""
    if not report.cuda:
        return 0
    torch.cuda.reset_peak_memory_stats(report.device)
    held = torch.cuda.memory_allocated(report.device)
    step()
    return max(1, torch.cuda.max_memory_allocated(report.device) - held)
