"""How fast the layers are, and how much memory they take: KAN beside MLPs and others."""

import importlib.util
import os
import runpy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from kancl.bench.harness import Row, Rows, Step, Timing, time_steps
from kancl.models import KAN, MLP
from kancl.models.cost import match_hidden, n_parameters
from kancl.splines import Implementation

OURS, WITH_SCALE = "kancl", "kancl, with scale"
WIDE, MATCHED = "MLP, same widths", "MLP, same parameters"

Network = Callable[..., nn.Module]


class Speed(NamedTuple):
    """Seconds per step of a variant, and the most that a step holds, optimizer included."""

    variant: str
    n_parameters: int
    timing: Timing
    peak_bytes: int


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
    """How fast the layers are, and how much memory they take: KAN beside MLPs and others.

    What is timed is a training step: forward, cross-entropy, backward and the same fused
    Adam for all. All variants of a network, batch size and grid size take turns in one
    process; a ratio is the median over the turns of the ratios within a turn. Memory is
    what a step holds at its peak. ``pip install 'kancl[bench]'`` adds inkan.

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
    rows: list[Row] = []
    for text, batch_size, grid_size in product(layers, batch_sizes, grid_sizes):
        sizes = [int(size) for size in text.split(",")]
        cell = sizes, batch_size, grid_size
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other projects' layers
            speeds = time_cell(*cell, implementations, degree, rounds, device, others)
        name = {"network": text.replace(",", "-"), "batch": batch_size, "G": grid_size}
        rows += (part := [{**name, **row} for row in speed_rows(speeds)])
        yield part
    if figure is not None:
        draw(rows, Path(figure))


def time_cell(
    sizes: Sequence[int],
    batch_size: int,
    grid_size: int,
    implementations: Sequence[Implementation] = (),
    degree: int = 3,
    rounds: int = 15,
    device: str = "cpu",
    others: Mapping[str, Network] = {},
) -> list[Speed]:
    """Time training steps of all variants in turns.

    Args:
        others: by name, networks that take the arguments of efficient-kan's.
    """
    x = torch.rand(batch_size, sizes[0], device=device) * 2 - 1
    target = torch.randint(sizes[-1], (batch_size,), device=device)
    kan = partial(KAN, sizes, grid_size, degree, enable_standalone_scale_spline=False)
    networks: dict[str, nn.Module] = {
        OURS: kan(),
        WITH_SCALE: KAN(sizes, grid_size, degree),
        **{f"kancl, {name}": kan(implementation=name) for name in implementations},
        WIDE: MLP(sizes),
    }
    if len(sizes) > 2:
        networks[MATCHED] = equal_mlp(networks[OURS], sizes)
    for name, other in others.items():
        networks[name] = other(sizes, grid_size=grid_size, spline_order=degree)
    steps = {k: training_step(net.to(device), x, target) for k, net in networks.items()}
    timings = time_steps(steps, rounds)
    return [
        Speed(k, n_parameters(net), timings[k], peak_bytes(net, steps[k], device))
        for k, net in networks.items()
    ]


def training_step(
    network: nn.Module, x: Tensor, y: Tensor, capturable: bool = False
) -> Step:
    """Forward, cross-entropy, backward and fused Adam on fixed samples."""
    adam = torch.optim.Adam(network.parameters(), fused=True, capturable=capturable)

    def step() -> None:
        adam.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        adam.step()

    return step


def equal_mlp(network: nn.Module, sizes: Sequence[int]) -> MLP:
    """The MLP of these depths, inputs and outputs with as many parameters."""

    def build(widths: Sequence[int]) -> MLP:
        return MLP([sizes[0], *widths, sizes[-1]])

    return build(match_hidden(build, len(sizes) - 2, n_parameters(network), "params"))


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
    """Every variant, and kancl's time and memory as multiples of its own."""
    (ours,) = [speed for speed in speeds if speed.variant == OURS]
    return [
        {
            "variant": speed.variant,
            "parameters": speed.n_parameters,
            "ms per step": 1e3 * speed.timing.median,
            "kancl's time": ours.timing.times(speed.timing),
            "peak MB": speed.peak_bytes / 1e6,
            "kancl's memory": ours.peak_bytes / speed.peak_bytes,
        }
        for speed in speeds
    ]


def draw(rows: Rows, path: Path) -> None:
    """Time and memory against the grid size, a column per network and batch size."""
    from matplotlib.ticker import LogLocator

    from kancl.reporting import colours
    from kancl.reporting.figures import new_figure

    styles: dict[object, dict[str, Any]] = {
        OURS: dict(color=colours.KAN, marker="o", linewidth=2.2),
        WITH_SCALE: dict(color=colours.KAN, marker="o", linestyle=":"),
        WIDE: dict(color=colours.MLP, marker="s", linestyle=":"),
        MATCHED: dict(color=colours.MLP, marker="s"),
        "inkan": dict(color="#009E73", marker="^"),
        "efficient-kan": dict(color=colours.OTHER, marker="D"),
    }
    columns = list(dict.fromkeys((row["network"], row["batch"]) for row in rows))
    n = len(columns)
    figure, axes = new_figure(3.1 * n + 0.8, 5.8, n, 2, sharex=True, sharey="row")
    measures = {"ms per step": "ms per training step", "peak MB": "peak memory, MB"}
    for line, (measure, label) in zip(axes, measures.items()):
        for axis, column in zip(line, columns):
            for variant in dict.fromkeys(row["variant"] for row in rows):
                name, style = (*column, variant), styles.get(variant, {})
                of = [
                    r for r in rows if (r["network"], r["batch"], r["variant"]) == name
                ]
                x, y = ([row[key] for row in of] for key in ("G", measure))
                axis.plot(x, y, markersize=4.5, label=variant, **style)
            axis.set(xscale="log", yscale="log")
            axis.grid(color="#DDDDDD", linewidth=0.6)
        line[0].set_ylabel(label, fontsize=9)
        line[0].yaxis.set_major_locator(LogLocator(subs=(1, 3)))
        line[0].yaxis.set_major_formatter("{x:g}")
    grids = sorted({row["G"] for row in rows})
    axes[0, 0].set_xticks(grids, grids)
    for axis in axes.flat:
        axis.minorticks_off()
    for (network, batch), upper, lower in zip(columns, *axes):
        upper.set_title(f"{network}, batch {batch}", fontsize=10)
        lower.set_xlabel("grid size G", fontsize=9)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=max(1, int(figure.get_figwidth() / 1.9)),
        fontsize=8.5,
        frameon=False,
    )
    figure.savefig(path)


def load_efficient_kan(checkout: str | Path) -> Network:
    """The class ``KAN`` of a checkout of efficient-kan; runs the code in it.

    Raises: ValueError if there is none.
    """
    path = Path(checkout) / "src" / "efficient_kan" / "kan.py"
    if not path.is_file():
        raise ValueError(
            f"{checkout} is no checkout of efficient-kan: {path} is missing"
        )
    return runpy.run_path(str(path))["KAN"]


def load_inkan() -> Network | None:
    """inkan's network, if the package is installed (extra ``bench``)."""
    if importlib.util.find_spec("inkan") is None:
        return None
    return importlib.import_module("inkan").KANNetwork
