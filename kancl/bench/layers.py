"""How fast the layers are, and how much memory they take: KAN beside MLPs and others.

What is timed is a training step: forward, cross-entropy, backward and the same fused
Adam for all. All sides of a cell (network, batch size, grid size) take turns in one
process, so that whatever else the machine does hits all of them; the first step of a turn
is not counted, a ratio is the median over the turns of the ratios within a turn. Memory is what a step holds at its peak:
parameters, gradients, Adam's moments and everything in between.

    pip install 'kancl[bench]'
    kancl bench layers --efficient-kan PATH_OF_A_CHECKOUT --output layers
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from kancl.bench.arguments import positive
from kancl.bench.others import load_efficient_kan, load_inkan
from kancl.models import KAN, MLP
from kancl.models.cost import match_hidden, n_parameters
from kancl.reporting.colours import KAN as KAN_COLOUR
from kancl.reporting.colours import MLP as MLP_COLOUR
from kancl.splines import Implementation

OURS = "kancl"
MATCHED = "MLP, same parameters"
TURN_SECONDS = 0.1  # a turn is as many steps as fit in, as in training: warm caches

STYLES: dict[str, dict[str, Any]] = {
    OURS: dict(color=KAN_COLOUR, marker="o", linewidth=2.2),
    "kancl, with scale": dict(color=KAN_COLOUR, marker="o", linestyle=":"),
    "MLP, same widths": dict(color=MLP_COLOUR, marker="s", linestyle=":"),
    MATCHED: dict(color=MLP_COLOUR, marker="s"),
    "inkan": dict(color="#009E73", marker="^"),
    "efficient-kan": dict(color="#777777", marker="D"),
}


@dataclass(frozen=True)
class Cell:
    """One comparison: sizes of the network, samples per step, intervals of the grid."""

    layers: tuple[int, ...]
    batch_size: int
    grid_size: int

    def __str__(self) -> str:
        sizes = "-".join(map(str, self.layers))
        return f"{sizes}, batch {self.batch_size}, G = {self.grid_size}"


@dataclass(frozen=True)
class Speed:
    """One side of a cell: seconds per training step, a figure per turn.

    Args:
        peak_bytes: the most that a step holds, parameters and optimizer included.
    """

    cell: Cell
    side: str
    n_parameters: int
    seconds: list[float]
    peak_bytes: int

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def times_the_time_of(self, other: Speed) -> float:
        """Median over the turns of this side's time as a multiple of the other's."""
        return statistics.median(a / b for a, b in zip(self.seconds, other.seconds))


def bench_layers(
    cell: Cell,
    efficient_kan: str | Path | None = None,
    implementations: Sequence[Implementation] = (),
    degree: int = 3,
    rounds: int = 15,
    device: str = "cpu",
) -> list[Speed]:
    """Time training steps of all sides of a cell in turns.

    Args:
        efficient_kan: a checkout of efficient-kan; ``None`` leaves it out.
        implementations: of ``KANLinear``, as further sides.
        rounds: turns of each side.
    """
    x = torch.rand(cell.batch_size, cell.layers[0], device=device) * 2 - 1
    target = torch.randint(cell.layers[-1], (cell.batch_size,), device=device)
    networks = _networks(cell, degree, efficient_kan, implementations)
    steps = {
        side: _training_step(network.to(device), x, target)
        for side, network in networks.items()
    }
    n_steps: dict[str, int] = {}
    for side, step in steps.items():
        step()  # compiles, allocates, makes the optimizer's state
        n_steps[side] = max(1, int(TURN_SECONDS / _seconds(step, 1, device)))
    seconds: dict[str, list[float]] = {side: [] for side in steps}
    for _ in range(rounds):
        for side, step in steps.items():
            step()  # brings its own data back into the caches, as in training
            seconds[side].append(_seconds(step, n_steps[side], device))
    return [
        Speed(
            cell,
            side,
            n_parameters(networks[side]),
            seconds[side],
            _peak_bytes(networks[side], step, device),
        )
        for side, step in steps.items()
    ]


def _networks(
    cell: Cell,
    degree: int,
    efficient_kan: str | Path | None,
    implementations: Sequence[Implementation],
) -> dict[str, nn.Module]:
    sizes, grid_size = list(cell.layers), cell.grid_size
    kan = partial(KAN, sizes, grid_size, degree, enable_standalone_scale_spline=False)
    networks: dict[str, nn.Module] = {
        OURS: kan(),
        "kancl, with scale": KAN(sizes, grid_size, degree),
    }
    for name in implementations:
        networks[f"kancl, {name}"] = kan(implementation=name)
    networks["MLP, same widths"] = MLP(sizes)
    if len(sizes) > 2:
        hidden = match_hidden(
            lambda widths: MLP([sizes[0], *widths, sizes[-1]]),
            len(sizes) - 2,
            n_parameters(networks[OURS]),
            "params",
        )
        networks[MATCHED] = MLP([sizes[0], *hidden, sizes[-1]])
    inkan = load_inkan() if degree == 3 else None
    if inkan is not None:
        networks["inkan"] = inkan(sizes, grid_size=grid_size, spline_order=degree)
    if efficient_kan is not None:
        networks["efficient-kan"] = load_efficient_kan(efficient_kan)(
            sizes, grid_size=grid_size, spline_order=degree
        )
    return networks


def _training_step(network: nn.Module, x: Tensor, target: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), target).backward()
        optimizer.step()

    return step


def _seconds(step: Callable[[], None], n_steps: int, device: str) -> float:
    _wait(device)
    start = time.perf_counter()
    for _ in range(n_steps):
        step()
    _wait(device)
    return (time.perf_counter() - start) / n_steps


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def _peak_bytes(network: nn.Module, step: Callable[[], None], device: str) -> int:
    """What a step holds at its peak, by torch's own record of what it allocates."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        gradients = sum(p.numel() * p.element_size() for p in network.parameters())
        peak = torch.cuda.max_memory_allocated() - before + gradients
    else:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            step()
        assert record.profiler is not None
        held = peak = 0
        for event in record.profiler.kineto_results.events():
            if event.name() == "[memory]":
                held += event.nbytes()
                peak = max(peak, held)
    # On top of parameters and Adam's two moments. The last gradients are freed, unseen by
    # the record, before the step makes new ones.
    parameters = sum(p.numel() * p.element_size() for p in network.parameters())
    return 3 * parameters + peak


def table(speeds: Sequence[Speed]) -> Iterator[tuple[str, ...]]:
    """The rows to print: each side of each cell beside kancl's."""
    yield "", "parameters", "ms per step", "kancl's time", "peak MB", "kancl's memory"
    cells = list(dict.fromkeys(speed.cell for speed in speeds))
    for cell in cells:
        sides = [speed for speed in speeds if speed.cell == cell]
        ours = next(speed for speed in sides if speed.side == OURS)
        yield (f"{cell}",)
        for speed in sides:
            own = speed is ours
            yield (
                f"  {speed.side}",
                f"{speed.n_parameters:,}",
                f"{speed.median * 1e3:.2f}",
                "" if own else f"{ours.times_the_time_of(speed):.2f}x",
                f"{speed.peak_bytes / 1e6:.1f}",
                "" if own else f"{ours.peak_bytes / speed.peak_bytes:.2f}x",
            )


def write_csv(speeds: Sequence[Speed], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            "layers batch_size grid_size side parameters ms_per_step "
            "kancl_over_side peak_bytes".split()
        )
        for speed in speeds:
            cell = speed.cell
            ours = next(s for s in speeds if s.cell == cell and s.side == OURS)
            writer.writerow(
                [
                    "-".join(map(str, cell.layers)),
                    cell.batch_size,
                    cell.grid_size,
                    speed.side,
                    speed.n_parameters,
                    f"{speed.median * 1e3:.4f}",
                    f"{ours.times_the_time_of(speed):.4f}",
                    speed.peak_bytes,
                ]
            )


def draw(speeds: Sequence[Speed], path: Path) -> None:
    """Time and memory against the grid size, a column per network and batch size."""
    from matplotlib.figure import Figure

    columns = list(dict.fromkeys((s.cell.layers, s.cell.batch_size) for s in speeds))
    figure = Figure(figsize=(3.1 * len(columns) + 0.8, 5.8), layout="constrained")
    axes = figure.subplots(2, len(columns), sharex=True, sharey="row", squeeze=False)
    sides = list(dict.fromkeys(s.side for s in speeds))
    for k, (layers, batch_size) in enumerate(columns):
        for side in sides:
            points = [
                s
                for s in speeds
                if (s.cell.layers, s.cell.batch_size, s.side)
                == (layers, batch_size, side)
            ]
            grid = [s.cell.grid_size for s in points]
            style: dict[str, Any] = {"markersize": 4.5, **STYLES.get(side, {})}
            axes[0, k].plot(grid, [s.median * 1e3 for s in points], label=side, **style)
            axes[1, k].plot(grid, [s.peak_bytes / 1e6 for s in points], **style)
        sizes = "-".join(map(str, layers))
        axes[0, k].set_title(f"{sizes}, batch {batch_size}", fontsize=10)
        axes[1, k].set_xlabel("grid size G", fontsize=9)
        ticks = sorted({s.cell.grid_size for s in speeds})
        for row in range(2):
            axes[row, k].set_xscale("log")
            axes[row, k].set_yscale("log")
            axes[row, k].set_xticks(ticks, [str(t) for t in ticks])
            axes[row, k].minorticks_off()
            axes[row, k].grid(color="#DDDDDD", linewidth=0.6)
            axes[row, k].spines[["top", "right"]].set_visible(False)
            axes[row, k].tick_params(labelsize=8)
    axes[0, 0].set_ylabel("ms per training step", fontsize=9)
    axes[1, 0].set_ylabel("peak memory, MB", fontsize=9)
    for axis in axes[:, 0]:
        low, high = axis.get_ylim()
        ticks = [t for t in (1, 3, 10, 30, 100, 300, 1000, 3000) if low <= t <= high]
        axis.set_yticks(ticks, [str(t) for t in ticks])
        axis.minorticks_off()
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=max(1, int(figure.get_figwidth() / 1.9)),
        fontsize=8.5,
        frameon=False,
    )
    figure.savefig(path, dpi=130)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="kancl bench layers", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--efficient-kan", metavar="PATH", help="a checkout of it")
    parser.add_argument(
        "--layers",
        nargs="+",
        default=["784,64,10", "784,256,256,10"],
        metavar="SIZES",
        help="networks, as 784,64,10",
    )
    parser.add_argument("--grid-sizes", type=positive, nargs="+", default=[5, 20, 64])
    parser.add_argument("--batch-sizes", type=positive, nargs="+", default=[64, 256])
    parser.add_argument("--degree", type=positive, default=3)
    parser.add_argument("--implementations", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--rounds", type=positive, default=15)
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, help="folder for layers.csv, .png")
    options = parser.parse_args(argv)
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # the profiler talks on stderr
    before = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    speeds: list[Speed] = []
    try:
        networks = [tuple(map(int, sizes.split(","))) for sizes in options.layers]
        for cell in product(networks, options.batch_sizes, options.grid_sizes):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # other projects' layers
                found = bench_layers(
                    Cell(*cell),
                    options.efficient_kan,
                    options.implementations,
                    options.degree,
                    options.rounds,
                    options.device,
                )
            rows = list(table(found))
            for row in rows if not speeds else rows[1:]:
                name, *figures = row
                print(f"{name:40}" + "".join(f"{f:>15}" for f in figures), flush=True)
            speeds += found
    except ValueError as error:
        parser.error(str(error))
    finally:
        torch.set_num_threads(before)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        write_csv(speeds, options.output / "layers.csv")
        draw(speeds, options.output / "layers.png")
        print(f"\nWritten to {options.output}/layers.csv and layers.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
