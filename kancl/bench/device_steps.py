"""Training steps as a device is measured by: seeded, stacked by vmap, recorded as graphs."""

import os
from collections.abc import Sequence
from math import inf

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from kancl.bench.harness import Row, Step, verdict
from kancl.bench.layers import training_step
from kancl.models import KAN
from kancl.splines import Implementation, gpu

N_SEEDS = 10
WARM_UP = 3  # steps before a graph is recorded, as torch asks for
BATCH = 64


def is_cuda(device: str) -> bool:
    return torch.device(device).type == "cuda"


def implementations(device: str) -> list[Implementation]:
    """Ways to sum splines on this device: the fused one only where it runs."""
    return ["dense"] if why_not_triton(device) else ["dense", "triton"]


def why_not_triton(device: str, degree: int = 3) -> str | None:
    """What keeps the fused path from this device."""
    if why := gpu.why_not(1, degree):
        return why
    runs = is_cuda(device) or os.environ.get("TRITON_INTERPRET") == "1"
    return None if runs else "needs CUDA, or TRITON_INTERPRET=1"


def row(what: str, result: str, target: str = "", verdict: str = "") -> Row:
    return {"what": what, "result": result, "target": target, "verdict": verdict}


def at_most(device: str, what: str, value: float, most: float, shown: str = "") -> Row:
    """A figure with its target (inf: none), which counts on a GPU only."""
    target = f"<= {most:g}" if most < inf else ""
    judged = verdict(value <= most) if target and is_cuda(device) else ""
    return row(what, shown or f"{value:.2f}", target, judged)


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


class Graph:
    """``training_step`` recorded as a CUDA graph; calling it replays the step.

    Warm-up, recording and every replay happen on one stream of its own: cuBLAS has a
    workspace for each stream, which two graphs must not share (pytorch issue 193402).
    The ``WARM_UP`` steps train, recording does not.
    """

    _alive: "list[Graph]" = []
    """A graph that is freed while others replay has ended processes."""

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor) -> None:
        step = training_step(model, x, y, capturable=True)
        self._stream, self._graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        self._alive.append(self)
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UP):
                step()
        with torch.cuda.graph(self._graph, stream=self._stream):
            step()
        self.join()

    def start(self) -> None:
        """Replay behind what the present stream has to do by now."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self._graph.replay()

    def join(self) -> None:
        """What the present stream gets to do from now on waits for the replay."""
        torch.cuda.current_stream().wait_stream(self._stream)

    def __call__(self) -> None:
        self.start()
        self.join()


def on_streams(graphs: Sequence[Graph]) -> Step:
    """A step of all at once."""

    def step() -> None:
        for graph in graphs:
            graph.start()
        for graph in graphs:
            graph.join()

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
