"""How fast a device is: training steps, CUDA graphs, ten seeds at once, whole runs."""

import os
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import inf
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from kancl.bench.harness import Row, Rows, Step, finished_run, main, time_steps, verdict
from kancl.bench.layers import MATCHED, equal_mlp, time_cell, training_step
from kancl.models import KAN
from kancl.splines import Implementation, gpu

SLOWEST = 1.5
"""Time of a KAN's step at most, of that of the MLP with as many parameters."""
N_SEEDS = 10
LONGEST_SEEDS = 2.5
"""Time of all seeds at most, of that of one."""
LONGEST_RUN = 5.0
"""Seconds at most of a Split MNIST run after start-up: 5 experiences, 1 epoch each."""
WARM_UP = 3  # steps before a graph is recorded, as torch asks for
BATCH = 64

Checks = Literal["steps", "graphs", "compiled", "vmap", "streams", "runs"]


def bench_device(
    *, device: str | None = None, small: bool = False, only: Sequence[Checks] = ()
) -> Iterator[Rows]:
    """How fast a device is: training steps, CUDA graphs, ten seeds at once, whole runs.

    A KAN's step is held to that of the MLP with as many parameters; a target counts on a
    GPU only. An error is a failed row, and the rest follows. Whether a device computes
    right is a matter of tests: ``pytest -m cuda``.

    Args:
        device: cuda, if there is one, unless said otherwise.
        small: seconds on a CPU.
        only: some of the measurements; all if none is named. All but runs do without
            Avalanche.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name(device) if _is_cuda(device) else device
    yield [_row("device", f"{name}, torch {torch.__version__}")]
    for check in only or MEASUREMENTS:
        if check in NEED_CUDA and not _is_cuda(device):
            yield [_row(check, "not run: needs CUDA")]
            continue
        try:
            for row in MEASUREMENTS[check](device, small):
                yield [row]
        except ModuleNotFoundError as error:
            yield [_row(check, f"not run: {error.name} is not installed")]
        except Exception as error:  # whatever a device comes up with
            yield [_row(check, f"{type(error).__name__}: {error}", "no error", "FAIL")]


def _row(what: str, result: str, target: str = "", verdict: str = "") -> Row:
    return {"what": what, "result": result, "target": target, "verdict": verdict}


def _at_most(device: str, what: str, value: float, most: float, shown: str = "") -> Row:
    """A figure with its target (inf: none), which counts on a GPU only."""
    target = f"<= {most:g}" if most < inf else ""
    judged = verdict(value <= most) if target and _is_cuda(device) else ""
    return _row(what, shown or f"{value:.2f}", target, judged)


def _ratio(
    device: str, what: str, ours: Step, theirs: Step, most: float, turns: int = 15
) -> Row:
    """Time of a step as a multiple of another's."""
    timing, other = time_steps({"ours": ours, "theirs": theirs}, turns).values()
    ratio = timing.times(other)
    shown = f"{ratio:.2f} ({1e3 * timing.median:.3f} ms)"
    return _at_most(device, what, ratio, most, shown)


def _steps(device: str, small: bool) -> Iterator[Row]:
    """Every implementation beside the MLPs of equal widths and of equal parameters."""
    grids = product((64, 256, 1024), (5, 20, 64))
    for batch, grid_size in [(4, 5)] if small else grids:
        names, turns = implementations(device), 1 if small else 15
        cell = layer_sizes(small), batch, grid_size
        speeds = time_cell(*cell, names, rounds=turns, device=device)
        by_name = {speed.variant: speed for speed in speeds}
        equal, title = by_name.pop(MATCHED), f"step, batch {batch}, G {grid_size}"
        shown = (
            f"{name} {1e3 * speed.timing.median:.3f} ms, "
            f"{speed.peak_bytes / equal.peak_bytes:.2f} of its memory"
            for name, speed in by_name.items()
        )
        ms = f"equal MLP {1e3 * equal.timing.median:.3f} ms"
        yield _row(title, "; ".join([ms, *shown]))
        ratios = {n: by_name[f"kancl, {n}"].timing.times(equal.timing) for n in names}
        best = min(names, key=ratios.__getitem__)
        what = f"{title}: fastest KAN ({best}) / equal MLP"
        yield _at_most(device, what, ratios[best], SLOWEST)


def _graphs(device: str, small: bool) -> Iterator[Row]:
    """The small network's whole step as one CUDA graph, beside the eager step."""
    x, y = samples(device, sizes := layer_sizes(small))
    mlp = equal_mlp(KAN(sizes), sizes).to(device)
    others = {"graph": graphed(mlp, x, y), "eager step": training_step(mlp, x, y)}
    for name, (kind, other) in product(implementations(device), others.items()):
        graph = graphed(seeded_kan(device, sizes, name), x, y)
        what = f"step as a CUDA graph, {name} / equal MLP's {kind}"
        yield _ratio(device, what, graph, other, SLOWEST if kind == "graph" else inf)


def _compiled(device: str, small: bool) -> Iterator[Row]:
    x, y = samples(device, sizes := layer_sizes(small))
    plain, dense = (seeded_kan(device, sizes, "dense") for _ in range(2))
    compiled = training_step(cast(nn.Module, torch.compile(dense)), x, y)
    what = "torch.compile of the dense step: time / eager's"
    yield _ratio(device, what, compiled, training_step(plain, x, y), inf)


def _seeds_by_vmap(device: str, small: bool) -> Iterator[Row]:
    x, y = samples(device, sizes := layer_sizes(small), N_SEEDS)
    together, _ = stacked_step(seeded_kans(device, sizes, "dense"), x, y)
    one = training_step(seeded_kan(device, sizes, "dense"), x[0], y[0])
    what = f"{N_SEEDS} seeds by vmap: time / one's"
    yield _ratio(device, what, together, one, LONGEST_SEEDS, turns=3)


def _seeds_by_graphs(device: str, small: bool) -> Iterator[Row]:
    """Each seed's step is recorded once and replayed on a stream of its own."""
    x, y = samples(device, sizes := layer_sizes(small), N_SEEDS)
    for name in implementations(device):
        graphs = [graphed(*one) for one in zip(seeded_kans(device, sizes, name), x, y)]
        what = f"{N_SEEDS} seeds by CUDA graphs, {name}: time / one's"
        yield _ratio(device, what, on_streams(graphs), graphs[0], LONGEST_SEEDS)


def _runs(device: str, small: bool) -> Iterator[Row]:
    """Whole Split MNIST runs; the first of each starts the device up."""
    kans = [f"model=kan model.implementation={n}" for n in implementations(device)]
    variants = product(["model=mlp match=params", "model=kan", *kans], (64, 256))
    cut = "model=kan scenario.train_samples=100 scenario.test_samples=50"
    for variant, batch in [(cut, 64)] if small else variants:
        words = f"{variant} training.batch_size={batch}"
        own = [*words.split(), f"device={device}"]
        _, last = (finished_run([*own, f"seed={k}"]) for k in (0, 1))
        seconds = last["train_seconds"] + last["eval_seconds"]
        yield _at_most(device, f"Split MNIST, {words}: seconds", seconds, LONGEST_RUN)


MEASUREMENTS: dict[str, Callable[[str, bool], Iterator[Row]]] = {
    "steps": _steps,
    "graphs": _graphs,
    "compiled": _compiled,
    "vmap": _seeds_by_vmap,
    "streams": _seeds_by_graphs,
    "runs": _runs,
}
NEED_CUDA = {"graphs", "compiled", "streams"}


# what is measured here and tested in tests/device


def _is_cuda(device: str) -> bool:
    return torch.device(device).type == "cuda"


def implementations(device: str) -> list[Implementation]:
    """Ways to sum splines on this device: the fused one only where it runs."""
    return ["dense"] if why_not_triton(device) else ["dense", "triton"]


def why_not_triton(device: str, degree: int = 3) -> str | None:
    """What keeps the fused path from this device."""
    if why := gpu.why_not(1, degree):
        return why
    runs = _is_cuda(device) or os.environ.get("TRITON_INTERPRET") == "1"
    return None if runs else "needs CUDA, or TRITON_INTERPRET=1"


def layer_sizes(small: bool) -> tuple[int, ...]:
    return (3, 2, 2) if small else (784, 64, 10)


def seeded_kan(
    device: str, sizes: Sequence[int], name: Implementation, seed: int = 1
) -> KAN:
    torch.manual_seed(seed)
    return KAN(sizes, implementation=name).to(device)


def seeded_kans(device: str, sizes: Sequence[int], name: Implementation) -> list[KAN]:
    return [seeded_kan(device, sizes, name, seed) for seed in range(N_SEEDS)]


def samples(device: str, sizes: Sequence[int], *seeds: int) -> tuple[Tensor, Tensor]:
    """Inputs and labels, ``(*seeds, batch, in)`` and ``(*seeds, batch)``."""
    torch.manual_seed(0)
    x = torch.rand(*seeds, BATCH, sizes[0])
    return x.to(device), torch.randint(sizes[-1], (*seeds, BATCH)).to(device)


def graphed(model: nn.Module, x: Tensor, y: Tensor) -> Step:
    """Record ``training_step`` as a CUDA graph; returns what replays it.

    The ``WARM_UP`` steps before train, recording does not.
    """
    step = training_step(model, x, y, capturable=True)
    background = torch.cuda.Stream()
    background.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(background):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(background)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def on_streams(graphs: Sequence[Step]) -> Step:
    """A step of all, each on a stream of its own."""
    streams = [torch.cuda.Stream() for _ in graphs]

    def step() -> None:
        for graph, stream in zip(graphs, streams):
            with torch.cuda.stream(stream):
                graph()

    return step


def stacked_step(
    models: Sequence[KAN], x: Tensor, y: Tensor
) -> tuple[Step, dict[str, Tensor]]:
    """A training step of all models, on stacked samples, and the stacked parameters."""
    parameters, _ = stack_module_state(list(models))
    optimizer = torch.optim.Adam(parameters.values(), fused=True)

    def loss(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        outputs = functional_call(models[0], parameters, (x,))  # all have one grid
        return nn.functional.cross_entropy(outputs, y)

    def step() -> None:
        optimizer.zero_grad()
        vmap(loss)(parameters, x, y).sum().backward()
        optimizer.step()

    return step, parameters


if __name__ == "__main__":  # python -m kancl.bench.device needs no Avalanche
    raise SystemExit(main(bench_device))
