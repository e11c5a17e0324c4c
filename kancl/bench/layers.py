"""How fast the layers are, and how much memory they take: KAN beside MLPs and others.

What is timed is a training step: forward, cross-entropy, backward and the same fused
Adam for all. All variants of a cell (network, batch size, grid size) take turns in one
process; a ratio is the median over the turns of the ratios within a turn. Memory is what
a step holds at its peak: parameters, gradients, Adam's moments and everything in between.

    pip install 'kancl[bench]'
    kancl bench layers --efficient-kan PATH_OF_A_CHECKOUT --figure layers.png
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from kancl.bench.harness import (
    Rows,
    Step,
    Timing,
    command,
    equal_mlp,
    time_steps,
    training_step,
)
from kancl.bench.others import load_efficient_kan, load_inkan
from kancl.models import KAN, MLP
from kancl.models.cost import n_parameters
from kancl.splines import Implementation

OURS = "kancl"
MATCHED = "MLP, same parameters"


@dataclass(frozen=True)
class Cell:
    """One comparison: sizes of the network, samples per step, intervals of the grid."""

    layers: tuple[int, ...]
    batch_size: int
    grid_size: int


@dataclass(frozen=True)
class Speed:
    """A variant's training steps.

    Args:
        timing: seconds per step.
        peak_bytes: the most that a step holds, parameters and optimizer included.
    """

    cell: Cell
    variant: str
    n_parameters: int
    timing: Timing
    peak_bytes: int


def time_cell(
    cell: Cell,
    implementations: Sequence[Implementation] = (),
    degree: int = 3,
    rounds: int = 15,
    device: str = "cpu",
    others: Mapping[str, Callable[..., nn.Module]] = {},
) -> list[Speed]:
    """Time training steps of all variants of a cell in turns.

    Args:
        implementations: of ``KANLinear``, as further variants.
        rounds: turns of each variant.
        others: by name, networks that take the arguments of efficient-kan's.
    """
    x = torch.rand(cell.batch_size, cell.layers[0], device=device) * 2 - 1
    target = torch.randint(cell.layers[-1], (cell.batch_size,), device=device)
    sizes, grid_size = list(cell.layers), cell.grid_size
    kan = partial(KAN, sizes, grid_size, degree, enable_standalone_scale_spline=False)
    networks: dict[str, nn.Module] = {
        OURS: kan(),
        "kancl, with scale": KAN(sizes, grid_size, degree),
        **{f"kancl, {name}": kan(implementation=name) for name in implementations},
        "MLP, same widths": MLP(sizes),
    }
    if len(sizes) > 2:
        networks[MATCHED] = equal_mlp(networks[OURS], sizes)
    for name, other in others.items():
        networks[name] = other(sizes, grid_size=grid_size, spline_order=degree)
    steps = {
        variant: training_step(network.to(device), x, target)
        for variant, network in networks.items()
    }
    timings = time_steps(steps, rounds)
    return [
        Speed(
            cell,
            variant,
            n_parameters(networks[variant]),
            timings[variant],
            peak_bytes(networks[variant], step, device),
        )
        for variant, step in steps.items()
    ]


def peak_bytes(network: nn.Module, step: Step, device: str) -> int:
    """What a step holds at its peak, by torch's own record of what it allocates."""
    # The last gradients are freed, unseen by the record, before the step makes new ones.
    parameters = sum(p.numel() * p.element_size() for p in network.parameters())
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        peak = torch.cuda.max_memory_allocated() - before + parameters
    else:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            step()
        assert record.profiler is not None
        allocated = peak = 0
        for event in record.profiler.kineto_results.events():
            if event.name() == "[memory]":
                allocated += event.nbytes()
                peak = max(peak, allocated)
    return 3 * parameters + peak  # with Adam's two moments


def speed_rows(speeds: Sequence[Speed]) -> Rows:
    """Each variant of a cell, and kancl's time and memory as multiples of its own."""
    (ours,) = [speed for speed in speeds if speed.variant == OURS]
    return [
        {
            "network": "-".join(map(str, speed.cell.layers)),
            "batch": speed.cell.batch_size,
            "G": speed.cell.grid_size,
            "variant": speed.variant,
            "parameters": speed.n_parameters,
            "ms per step": 1e3 * speed.timing.median,
            "kancl's time": ours.timing.times(speed.timing),
            "peak MB": speed.peak_bytes / 1e6,
            "kancl's memory": ours.peak_bytes / speed.peak_bytes,
        }
        for speed in speeds
    ]


def draw(speeds: Sequence[Speed], path: Path) -> None:
    """Time and memory against the grid size, a column per network and batch size."""
    from matplotlib.figure import Figure

    from kancl.reporting import colours

    styles: dict[str, dict[str, Any]] = {
        OURS: dict(color=colours.KAN, marker="o", linewidth=2.2),
        "kancl, with scale": dict(color=colours.KAN, marker="o", linestyle=":"),
        "MLP, same widths": dict(color=colours.MLP, marker="s", linestyle=":"),
        MATCHED: dict(color=colours.MLP, marker="s"),
        "inkan": dict(color="#009E73", marker="^"),
        "efficient-kan": dict(color="#777777", marker="D"),
    }
    columns = list(dict.fromkeys((s.cell.layers, s.cell.batch_size) for s in speeds))
    figure = Figure(figsize=(3.1 * len(columns) + 0.8, 5.8), layout="constrained")
    axes = figure.subplots(2, len(columns), sharex=True, sharey="row", squeeze=False)
    grids = sorted({s.cell.grid_size for s in speeds})
    for k, column in enumerate(columns):
        cells = [s for s in speeds if (s.cell.layers, s.cell.batch_size) == column]
        for variant in dict.fromkeys(s.variant for s in speeds):
            points = [s for s in cells if s.variant == variant]
            grid = [s.cell.grid_size for s in points]
            style = {"markersize": 4.5, "label": variant, **styles.get(variant, {})}
            axes[0, k].plot(grid, [s.timing.median * 1e3 for s in points], **style)
            axes[1, k].plot(grid, [s.peak_bytes / 1e6 for s in points], **style)
        sizes = "-".join(map(str, column[0]))
        axes[0, k].set_title(f"{sizes}, batch {column[1]}", fontsize=10)
        axes[1, k].set_xlabel("grid size G", fontsize=9)
    for axis in axes.flat:
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.set_xticks(grids, [str(size) for size in grids])
        axis.minorticks_off()
        axis.grid(color="#DDDDDD", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    for axis, label in zip(axes[:, 0], ("ms per training step", "peak memory, MB")):
        axis.set_ylabel(label, fontsize=9)
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


def bench_layers(
    *,
    layers: Sequence[str] = ("784,64,10", "784,256,256,10"),
    batch_sizes: Sequence[int] = (64, 256),
    grid_sizes: Sequence[int] = (5, 20, 64),
    degree: int = 3,
    implementations: Sequence[Implementation] = (),
    efficient_kan: str | None = None,
    rounds: int = 15,
    device: str = "cpu",
    figure: str | None = None,
) -> Iterator[Rows]:
    """Time every combination of network, batch size and grid size.

    Args:
        layers: networks, as 784,64,10.
        implementations: of KANLinear, as further variants.
        efficient_kan: a checkout of it, to time as well.
        rounds: turns of each variant.
        figure: file to draw time and memory into, against the grid size.
    """
    inkan = load_inkan() if degree == 3 else None
    others = {"inkan": inkan} if inkan else {}
    if efficient_kan is not None:
        others["efficient-kan"] = load_efficient_kan(efficient_kan)
    os.environ.setdefault("KINETO_LOG_LEVEL", "9")  # the profiler talks on stderr
    speeds: list[Speed] = []
    networks = [tuple(map(int, sizes.split(","))) for sizes in layers]
    for cell in product(networks, batch_sizes, grid_sizes):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other projects' layers
            measured = time_cell(
                Cell(*cell), implementations, degree, rounds, device, others
            )
        speeds += measured
        yield speed_rows(measured)
    if figure is not None:
        draw(speeds, Path(figure))


main = command(bench_layers)
