"""Ten seeds side by side on one device: how long they take, each equal to its lone run.

Two ways. ``vmap``: the networks' parameters are stacked, and one step trains all of
them; sums may be rounded differently. CUDA graphs: each seed's step is recorded once and
replayed on a stream of its own.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from kancl.bench.device.layers import implementations, relative_error
from kancl.bench.device.report import Report
from kancl.bench.device.steps import graphed, layer_sizes, training_step
from kancl.models import KAN

N_SEEDS = 10
LONGEST = 2.5
"""Time of all seeds at most, of that of one."""
BATCH = 64


def check_seeds_by_vmap(report: Report) -> None:
    n_steps = 3 if report.small else 50
    x, y = _samples(report)
    lone = [_kan(report, seed, "dense") for seed in range(N_SEEDS)]
    together = [_kan(report, seed, "dense") for seed in range(N_SEEDS)]
    all_steps, parameters = _stacked_step(together, x, y)
    lone_steps = [training_step(*one) for one in zip(lone, x, y)]
    seconds: dict[str, list[float]] = {"one": [], "all": []}
    for i in range(n_steps):
        start = report.now()
        all_steps()
        middle = report.now()
        lone_steps[0]()
        seconds["all"].append(middle - start)
        seconds["one"].append(report.now() - middle)
        for step in lone_steps[1:]:
            step()
    error = max(
        relative_error(parameters[name][seed], parameter)
        for seed, model in enumerate(lone)
        for name, parameter in model.named_parameters()
    )
    report.add(
        f"{N_SEEDS} seeds by vmap: equal to lone runs",
        f"largest relative difference after {n_steps} steps {error:.1e}",
        "<= 1e-03",
        error <= 1e-3,
    )
    _add_ratio(report, "by vmap", seconds)


def _stacked_step(
    models: list[KAN], x: Tensor, y: Tensor
) -> tuple[Callable[[], None], dict[str, Tensor]]:
    """A training step of all models, on stacked samples, and the stacked parameters."""
    parameters, _ = stack_module_state(models)
    model = models[0]  # grids are the same for all
    optimizer = torch.optim.Adam(parameters.values(), fused=True)

    def loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        outputs = functional_call(model, parameters, (x,))
        return nn.functional.cross_entropy(outputs, y)

    def step() -> None:
        optimizer.zero_grad()
        vmap(loss)(parameters, x, y).sum().backward()
        optimizer.step()

    return step, parameters


def check_seeds_by_graphs(report: Report) -> None:
    for name in implementations(report):
        check = f"{N_SEEDS} seeds by CUDA graphs, {name}"
        if not report.cuda:
            report.not_run(check, "needs CUDA", f"<= {LONGEST} x one")
            continue
        n_steps = 50
        x, y = _samples(report)
        sides = []
        for _ in ("lone", "together"):
            models = [_kan(report, seed, name) for seed in range(N_SEEDS)]
            graphs = [graphed(*one) for one in zip(models, x, y)]
            sides.append((models, graphs))
        (lone, lone_graphs), (together, graphs) = sides
        streams = [torch.cuda.Stream() for _ in graphs]
        for graph in lone_graphs:
            for _ in range(n_steps):
                graph()
        report.now()
        seconds: dict[str, list[float]] = {"one": [], "all": []}
        start = report.now()
        for _ in range(n_steps):
            for graph, stream in zip(graphs, streams):
                with torch.cuda.stream(stream):
                    graph()
        seconds["all"].append(report.now() - start)
        same = all(
            torch.equal(one, other)
            for models in zip(lone, together)
            for one, other in zip(*(model.parameters() for model in models))
        )
        report.add(
            f"{check}: equal to lone runs", f"{n_steps} steps", "same bits", same
        )
        start = report.now()
        for _ in range(n_steps):
            lone_graphs[0]()
        seconds["one"].append(report.now() - start)
        _add_ratio(report, f"by CUDA graphs, {name}", seconds)


def _add_ratio(report: Report, how: str, seconds: dict[str, list[float]]) -> None:
    one, together = (statistics.median(seconds[side]) for side in ("one", "all"))
    report.add(
        f"{N_SEEDS} seeds {how}: time / one's",
        f"{together / one:.2f}",
        f"<= {LONGEST}",
        together <= LONGEST * one if report.cuda else None,
    )


def _kan(report: Report, seed: int, name: str) -> KAN:
    torch.manual_seed(seed)
    kan = KAN(layer_sizes(report), implementation=name)  # type: ignore[arg-type]
    return kan.to(report.device)


def _samples(report: Report) -> tuple[Tensor, Tensor]:
    """Each seed's own: ``(n_seeds, batch, in)``, ``(n_seeds, batch)``."""
    torch.manual_seed(0)
    layers = layer_sizes(report)
    x = torch.rand(N_SEEDS, BATCH, layers[0])
    y = torch.randint(layers[-1], (N_SEEDS, BATCH))
    return x.to(report.device), y.to(report.device)
