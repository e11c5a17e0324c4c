"""How fast the layers are: a training step of KAN, MLP and, if given, efficient-kan.

A step is forward, cross-entropy, backward and Adam as it comes. All sides take turns
in one process, so that whatever else the machine does hits all of them; medians over
rounds are compared, and the ratio is the median of the rounds' ratios.

    python -m kancl.bench.layers --efficient-kan PATH_OF_A_CHECKOUT
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kancl.models import KAN, MLP
from kancl.models.cost import n_parameters
from kancl.models.matching import match_hidden


@dataclass(frozen=True)
class Speed:
    """Seconds per training step of one side, one figure per round."""

    side: str
    n_parameters: int
    seconds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def times_faster_than(self, other: Speed) -> float:
        """Median over rounds of how many steps this side does in one of the other's."""
        return statistics.median(b / a for a, b in zip(self.seconds, other.seconds))


def bench_layers(
    efficient_kan: str | Path | None = None,
    layers: Sequence[int] = (784, 64, 10),
    grid_size: int = 5,
    degree: int = 3,
    batch_size: int = 64,
    rounds: int = 30,
    steps: int = 5,
    device: str = "cpu",
) -> list[Speed]:
    """Time training steps of all sides in turns.

    Args:
        efficient_kan: a checkout of efficient-kan; ``None`` leaves it out.
        rounds: turns of each side.
        steps: training steps per turn.
    """
    x = torch.rand(batch_size, layers[0], device=device) * 2 - 1
    target = torch.randint(layers[-1], (batch_size,), device=device)
    sizes = list(layers)
    ours = KAN(sizes, grid_size, degree)
    without_scaler = KAN(sizes, grid_size, degree, enable_standalone_scale_spline=False)
    n_hidden = len(sizes) - 2
    networks: dict[str, nn.Module] = {
        "KAN": ours,
        "KAN without scaler": without_scaler,
        "MLP, same widths": MLP(sizes),
    }
    if n_hidden:
        hidden = match_hidden(
            lambda widths: MLP([sizes[0], *widths, sizes[-1]]),
            n_hidden,
            n_parameters(without_scaler),
            "params",
        )
        networks["MLP, same parameters"] = MLP([sizes[0], *hidden, sizes[-1]])
    if efficient_kan is not None:
        networks["efficient-kan"] = load_efficient_kan(efficient_kan)(
            sizes, grid_size=grid_size, spline_order=degree
        )
    turns = {
        side: _training_step(network.to(device), x, target)
        for side, network in networks.items()
    }
    seconds: dict[str, list[float]] = {side: [] for side in turns}
    for step in turns.values():  # warm up
        step()
        step()
    for _ in range(rounds):
        for side, step in turns.items():
            _wait(device)
            start = time.perf_counter()
            for _ in range(steps):
                step()
            _wait(device)
            seconds[side].append((time.perf_counter() - start) / steps)
    return [
        Speed(side, n_parameters(networks[side]), seconds[side]) for side in networks
    ]


def load_efficient_kan(checkout: str | Path) -> Callable[..., nn.Module]:
    """The class ``KAN`` of a checkout of efficient-kan; runs the code in it.

    Raises: ValueError if there is none.
    """
    path = Path(checkout) / "src" / "efficient_kan" / "kan.py"
    spec = importlib.util.spec_from_file_location("efficient_kan_checkout", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ValueError(
            f"{checkout} is no checkout of efficient-kan: {path} is missing"
        )
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[..., nn.Module] = module.KAN
    return found


def _training_step(
    network: nn.Module, x: torch.Tensor, target: torch.Tensor
) -> Callable[[], None]:
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), target).backward()
        optimizer.step()

    return step


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="kancl bench layers", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--efficient-kan", metavar="PATH", help="a checkout of it")
    parser.add_argument("--layers", type=int, nargs="+", default=[784, 64, 10])
    parser.add_argument("--grid-size", type=int, default=5)
    parser.add_argument("--degree", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = vars(parser.parse_args(argv))
    torch.set_num_threads(options.pop("threads"))
    try:
        speeds = bench_layers(**options)
    except ValueError as error:
        parser.error(str(error))
    print(f"{'':24}{'parameters':>12}{'ms per step':>14}{'KAN is faster by':>18}")
    for speed in speeds:
        ratio = speeds[0].times_faster_than(speed)
        print(
            f"{speed.side:24}{speed.n_parameters:12,d}{speed.median * 1e3:14.2f}"
            f"{ratio:17.2f}x"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
