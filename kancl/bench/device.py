"""How right and how fast a device is, the most telling rows first."""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import inf
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from kancl.bench import device_runs
from kancl.bench.device_steps import (
    N_SEEDS,
    Graph,
    at_most,
    implementations,
    is_cuda,
    layer_sizes,
    on_streams,
    row,
    samples,
    seeded_kan,
    seeded_kans,
    stacked_step,
)
from kancl.bench.harness import Row, Rows, Step, main, time_steps
from kancl.bench.layers import MATCHED, equal_mlp, time_cell, training_step
from kancl.models import KAN

SLOWEST = 1.5
"""Time of a KAN's step at most, of that of the MLP with as many parameters."""
MOST_LAUNCHES = 1.3
"""Kernels that a KAN's step starts at most, for each of that MLP's."""
LONGEST_SEEDS = 2.5
"""Time of all seeds at most, of that of one."""
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 2e-2}
"""Largest error of outputs and gradients, relative to the largest entry of each."""

# fmt: off
Checks = Literal[
    "equality", "determinism", "waits", "launches", "steps", "runs", "cold", "memory",
    "resume", "processes", "vmap", "compiled", "graphs", "streams",
]
# fmt: on


def bench_device(
    *,
    device: str | None = None,
    small: bool = False,
    budget: float | None = None,
    only: Sequence[Checks] = (),
) -> Iterator[Rows]:
    """How right and how fast a device is, the most telling rows first.

    Rows are shown, and written to --csv, as they come: a time limit loses none. Targets
    count on a GPU only. An error is a failed row, and the rest follows; what records
    graphs comes last. ``pytest -m cuda`` checks more of what is right.

    Args:
        device: cuda, if there is one, unless said otherwise.
        small: seconds on a CPU.
        budget: seconds after which no further measurement is begun.
        only: some of the measurements; all if none is named. All but waits, runs, memory,
            resume and processes do without Avalanche.
    """
    start = time.monotonic()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    name = "no GPU: a CPU's rows have no verdict"
    if is_cuda(device):
        name = torch.cuda.get_device_name(device)
    yield [row("device", f"{name}, torch {torch.__version__}, {_triton()}")]
    for check in only or MEASUREMENTS:
        if check in NEED_CUDA and not is_cuda(device):
            yield [row(check, "not run: needs CUDA")]
            continue
        rows = MEASUREMENTS[check](device, small)
        try:
            while budget is None or time.monotonic() - start < budget:
                if (measured := next(rows, None)) is None:
                    break
                yield [measured]
            else:
                yield [row(check, f"not run, or not all: {budget:g} s are over")]
        except ModuleNotFoundError as error:
            yield [row(check, f"not run: {error.name} is not installed")]
        except Exception as error:  # whatever a device comes up with
            yield [row(check, f"{type(error).__name__}: {error}", "no error", "FAIL")]


def _triton() -> str:
    try:
        import triton
    except ImportError:
        return "no Triton"
    return f"Triton {triton.__version__}"


def _ratio(
    device: str, what: str, ours: Step, theirs: Step, most: float, turns: int = 15
) -> Row:
    """Time of a step as a multiple of another's."""
    timing, other = time_steps({"ours": ours, "theirs": theirs}, turns).values()
    ratio = timing.times(other)
    shown = f"{ratio:.2f} ({1e3 * timing.median:.3f} ms)"
    return at_most(device, what, ratio, most, shown)


# is it right?


def _equality(device: str, small: bool) -> Iterator[Row]:
    """Outputs and gradients beside those of float64 on the CPU."""
    sizes, n = layer_sizes(small)[:2], 8 if small else 200
    for dtype, name in product(TOLERANCE, implementations(device)):
        worst = 0.0
        for outside, degree in product(("zero", "clamp", "linear"), (1, 2, 3)):
            torch.manual_seed(0)
            exact = KAN(
                sizes,
                spline_order=degree,
                outside=outside,
                input_anchor=-0.5,
                implementation="dense",
            ).double()
            x = torch.empty(n, sizes[0], dtype=dtype).uniform_(-1.3, 1.3)
            ours = KAN(sizes, spline_order=degree, outside=outside, input_anchor=-0.5)
            ours.layers[0].implementation = name
            ours.load_state_dict(exact.state_dict())
            ours.to(device, dtype)
            with torch.no_grad():  # weights that are rounded alike
                for right, rounded in zip(exact.parameters(), ours.parameters()):
                    right.copy_(rounded)
            pairs = zip(_results(ours, x.to(device)), _results(exact, x.double()))
            worst = max(worst, *(_error(*pair) for pair in pairs))
        what = f"largest relative error, {str(dtype)[6:]}, {name}"
        yield at_most(device, what, worst, TOLERANCE[dtype], f"{worst:.1e}")


def _results(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Outputs, and gradients by the inputs and all parameters."""
    y = model(x.requires_grad_())
    weights = torch.linspace(0, 1, y.numel(), dtype=y.dtype, device=y.device)
    loss = (y * weights.view_as(y)).sum()
    return [y, *torch.autograd.grad(loss, [x, *model.parameters()])]


def _error(found: Tensor, right: Tensor) -> float:
    found, right = found.detach().cpu().double(), right.detach().cpu().double()
    return float((found - right).abs().max() / right.abs().max().clamp_min(1e-30))


def _determinism(device: str, small: bool) -> Iterator[Row]:
    """Whether training twice gives the same bits."""
    x, y = samples(device, sizes := layer_sizes(small))
    for name in implementations(device):
        trained = []
        for _ in range(2):
            step = training_step(model := seeded_kan(device, sizes, name), x, y)
            for _ in range(3 if small else 50):
                step()
            trained.append([p.detach().cpu() for p in model.parameters()])
        n = sum(int((a != b).sum()) for a, b in zip(*trained))
        what = f"parameters that differ, trained twice, {name}"
        yield at_most(device, what, n, 0, str(n))


# how fast is it?


def _launches(device: str, small: bool) -> Iterator[Row]:
    """Kernels that a step starts, by torch's profiler."""
    sizes = layer_sizes(small)
    for batch in (4,) if small else (64, 1024):
        torch.manual_seed(0)
        x, y = torch.rand(batch, sizes[0]), torch.randint(sizes[-1], (batch,))
        x, y = x.to(device), y.to(device)
        equal = _kernels_of(equal_mlp(KAN(sizes), sizes).to(device), x, y)
        for name in implementations(device):
            n = _kernels_of(seeded_kan(device, sizes, name), x, y)
            most = MOST_LAUNCHES if name == "triton" else 2 * SLOWEST * MOST_LAUNCHES
            what = f"kernels of a step, batch {batch}, {name} / equal MLP"
            ratio = n / equal if equal else inf  # the profiler saw nothing
            yield at_most(device, what, ratio, most, f"{ratio:.2f} ({n} / {equal})")


def _kernels_of(model: nn.Module, x: Tensor, y: Tensor) -> int:
    step = training_step(model, x, y)
    step()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as record:
        step()
    device_type = torch.autograd.DeviceType.CUDA
    return sum(event.device_type == device_type for event in record.events())


def _steps(device: str, small: bool) -> Iterator[Row]:
    """Every implementation beside the MLPs of equal widths and of equal parameters."""
    grids = ((batch, size) for size, batch in product((5, 20, 64), (64, 1024, 256)))
    for batch, grid_size in [(4, 5)] if small else grids:
        names, turns = implementations(device), 1 if small else 7
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
        yield row(title, "; ".join([ms, *shown]))
        ratios = {n: by_name[f"kancl, {n}"].timing.times(equal.timing) for n in names}
        best = min(names, key=ratios.__getitem__)
        what = f"{title}: fastest KAN ({best}) / equal MLP"
        yield at_most(device, what, ratios[best], SLOWEST)


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


def _graphs(device: str, small: bool) -> Iterator[Row]:
    """The small network's whole step as one CUDA graph, beside the eager step."""
    x, y = samples(device, sizes := layer_sizes(small))
    mlp = equal_mlp(KAN(sizes), sizes).to(device)
    eager = training_step(mlp, x, y)
    others: dict[str, Step] = {"graph": Graph(mlp, x, y), "eager step": eager}
    for name, (kind, other) in product(implementations(device), others.items()):
        graph = Graph(seeded_kan(device, sizes, name), x, y)
        what = f"step as a CUDA graph, {name} / equal MLP's {kind}"
        yield _ratio(device, what, graph, other, SLOWEST if kind == "graph" else inf)


def _seeds_by_graphs(device: str, small: bool) -> Iterator[Row]:
    """Each seed's step is recorded once and replayed on a stream of its own."""
    x, y = samples(device, sizes := layer_sizes(small), N_SEEDS)
    for name in implementations(device):
        graphs = [Graph(*one) for one in zip(seeded_kans(device, sizes, name), x, y)]
        what = f"{N_SEEDS} seeds by CUDA graphs, {name}: time / one's"
        yield _ratio(device, what, on_streams(graphs), graphs[0], LONGEST_SEEDS)


MEASUREMENTS: dict[str, Callable[[str, bool], Iterator[Row]]] = {
    "equality": _equality,
    "determinism": _determinism,
    "waits": device_runs.waits,
    "launches": _launches,
    "steps": _steps,
    "runs": device_runs.runs,
    "cold": device_runs.cold,
    "memory": device_runs.memory,
    "resume": device_runs.resume,
    "processes": device_runs.processes,
    "vmap": _seeds_by_vmap,
    "compiled": _compiled,
    "graphs": _graphs,
    "streams": _seeds_by_graphs,
}
NEED_CUDA = {"waits", "launches", "memory", "compiled", "graphs", "streams"}


if __name__ == "__main__":  # python -m kancl.bench.device needs no Avalanche
    raise SystemExit(main(bench_device))
