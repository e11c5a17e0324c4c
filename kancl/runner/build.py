"""From a configuration to the objects of a run: benchmark, network, optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from avalanche.models.utils import avalanche_model_adaptation
from torch import nn
from torch.optim import Optimizer

from kancl.benchmarks import Benchmark
from kancl.config import Choice, ConfigError, RunConfig
from kancl.data.rows import as_tensors
from kancl.models.cost import (
    forward_flops,
    match_hidden,
    n_active_parameters,
    n_parameters,
)
from kancl.models.heads import with_head
from kancl.models.inspect import spline_network
from kancl.runner.memory import refusing
from kancl.runner.request.registry import GROUPS
from kancl.runner.seeding import set_stream, stream_seed, stream_seeds

SAMPLES = 2_000  # that quantiles are taken of


@dataclass(frozen=True)
class Size:
    """What a network costs once every experience is learned.

    Args:
        hidden: widths of its hidden layers.
        n_parameters: with the heads of all experiences.
        n_active_parameters: that one sample's output depends on, through one head.
        flops: of a forward pass of one sample, through one head.
    """

    name: str
    hidden: tuple[int, ...]
    n_parameters: int
    n_active_parameters: int
    flops: int


@dataclass(frozen=True)
class Parts:
    """What a run is made of, before training.

    Args:
        size: of the network.
        reference: of the network it was matched to; None if it was not.
    """

    benchmark: Benchmark
    model: nn.Module
    head: str
    size: Size
    reference: Size | None


def build(config: RunConfig, benchmark: Benchmark | None = None) -> Parts:
    """Make benchmark and network, the network's widths solved if they are to match.

    Args:
        benchmark: one made of the same scenario before.

    Raises: ConfigError for values or pairs that cannot work.
    """
    device = resolve_device(config.device)
    with refusing(config):
        benchmark = benchmark or build_benchmark(config, device)
        head = head_kind(config, benchmark)
        solver = _Networks(benchmark, head)
        reference = None
        model = config.model
        if config.is_matched:
            reference = solver.size(config.match_to)
            model = solver.matched(model, reference, config.match)
        size = solver.size(model)
        set_stream(stream_seeds(config).init, "initialisation")
        network = solver.ready(model).to(device)
        _fit_input_grid(network, benchmark)
        build_optimizer(config, network.parameters())
    return Parts(benchmark, network, head, size, reference)


def resolve_device(name: str) -> torch.device:
    """Raises: ConfigError if cuda is asked for where there is none."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device=cuda: torch finds no GPU here; nearest: device=cpu")
    return torch.device(name)


def build_benchmark(config: RunConfig, device: torch.device) -> Benchmark:
    """The scenario's benchmark; its random draws depend on the seed of the order only."""
    benchmark: Benchmark = GROUPS["scenario"].build(
        config.scenario.builder,
        **config.scenario.options,
        data_dir=config.data_dir,
        seed=stream_seed(stream_seeds(config).order, "benchmark"),
        device=device,
    )
    return benchmark


def build_optimizer(config: RunConfig, parameters: Iterable[nn.Parameter]) -> Optimizer:
    optimizer: Optimizer = GROUPS["optimizer"].build(
        config.optimizer.builder, parameters, **config.optimizer.options
    )
    return optimizer


def head_kind(config: RunConfig, benchmark: Benchmark) -> str:
    """Raises: ConfigError for a head that these targets cannot be learned with."""
    info = benchmark.info
    if config.head == "auto":
        return info.head
    if info.function is not None and config.head != "single":
        raise ConfigError(
            f"scenario.head={config.head} is a head for classes, and "
            f"scenario={info.name} is a regression; nearest: scenario.head=single"
        )
    if (config.head == "multi") != (info.head == "multi"):
        raise ConfigError(
            f"scenario.head={config.head} does not go with "
            f"scenario.incremental={info.incremental}; nearest: scenario.head="
            f"{info.head} (task-incremental streams have a head per experience)"
        )
    return config.head


def _fit_input_grid(model: nn.Module, benchmark: Benchmark) -> None:
    """On the first experience's training data; of the quantiles a sample is enough."""
    network = spline_network(model)
    kind = getattr(network, "input_grid", "uniform")
    if network is None or kind == "uniform":
        return
    first = next(iter(benchmark.train_stream))
    with torch.random.fork_rng(devices=[]):  # a stock transform may draw
        x, _, _ = as_tensors(first.dataset, SAMPLES if kind == "quantile" else None)
    network.fit_input_grid(x.flatten(1))


class _Networks:
    """Networks for a benchmark, and their sizes."""

    def __init__(self, benchmark: Benchmark, head: Any) -> None:
        self._benchmark, self._head = benchmark, head

    def network(self, choice: Choice, hidden: Sequence[int] | None = None) -> nn.Module:
        network = self._plain(choice, hidden)
        return with_head(network, self._head, self._benchmark.info.n_outputs)

    def grown(self, choice: Choice, hidden: Sequence[int] | None = None) -> nn.Module:
        """The network as it is in the end, with the heads of all experiences."""
        return self._grow(self.network(choice, hidden))

    def ready(self, choice: Choice) -> nn.Module:
        """The network as training begins: a head per experience is there already, so
        that experiences can be evaluated before they are trained.
        """
        network = self.network(choice)
        return self._grow(network) if self._head == "multi" else network

    def size(self, choice: Choice) -> Size:
        return Size(
            choice.name,
            tuple(choice.options.get("hidden", ())),
            n_parameters(self.grown(choice)),
            n_active_parameters(self._plain(choice)),
            forward_flops(self._plain(choice)),
        )

    def matched(self, choice: Choice, reference: Size, by: Any) -> Choice:
        """The choice with the hidden widths that make it equal to the reference.

        Its depth stays; its hidden layers are made equally wide.
        """
        hidden = choice.options.get("hidden")
        if hidden is None:
            raise ConfigError(
                f"match={by} needs a model with hidden widths, which "
                f"model={choice.name} has not; nearest: match=none"
            )
        if by == "width":
            solved = list(reference.hidden)
        else:
            grown = partial(self.grown if by == "params" else self._plain, choice)
            target = reference.n_parameters if by == "params" else reference.flops
            solved = match_hidden(grown, len(hidden), target, by)
        return replace(choice, options={**choice.options, "hidden": tuple(solved)})

    def _plain(self, choice: Choice, hidden: Sequence[int] | None = None) -> nn.Module:
        info = self._benchmark.info
        options: dict[str, Any] = dict(choice.options)
        if hidden is not None:
            options["hidden"] = tuple(hidden)
        network: nn.Module = GROUPS["model"].build(
            choice.builder,
            info.in_features,
            info.n_outputs,
            input_range=info.input_range,
            **options,
        )
        return network

    def _grow(self, network: nn.Module) -> nn.Module:
        for experience in self._benchmark.train_stream:
            avalanche_model_adaptation(network, experience)
        return network
