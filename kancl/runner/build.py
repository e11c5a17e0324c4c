"""From a configuration to the objects of a run: benchmark, network, strategy."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from avalanche.benchmarks import CLScenario
from avalanche.models.utils import avalanche_model_adaptation
from avalanche.training.plugins import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn
from torch.optim import Optimizer

from kancl import strategies
from kancl.benchmarks import Benchmark, from_avalanche
from kancl.config import Choice, ConfigError, RunConfig
from kancl.data.rows import as_tensors
from kancl.models import cost
from kancl.models.heads import with_head
from kancl.models.inspect import kan_layers, spline_network
from kancl.plugins import loop
from kancl.plugins.plugin import Record
from kancl.plugins.steps.frozen import LazyStepsPlugin
from kancl.runner.machine import refusing, resolve_device
from kancl.runner.memory import check_fits
from kancl.runner.registry import GROUPS
from kancl.runner.seeding import SeedingPlugin, set_stream, stream_seed, stream_seeds


@dataclass(frozen=True)
class Size:
    """What a network costs once every experience is learned."""

    name: str
    hidden: tuple[int, ...]  # widths of its hidden layers
    n_parameters: int  # with the heads of all experiences
    n_active_parameters: int  # that one sample's output depends on, through one head
    flops: int  # of a forward pass of one sample, through one head


@dataclass(frozen=True)
class Parts:
    """What a run is made of, before training."""

    benchmark: Benchmark
    model: nn.Module
    head: str
    size: Size
    reference: Size | None  # whom its size matches
    random_state: Tensor  # torch's, once the network is drawn


def build(config: RunConfig, benchmark: CLScenario | None = None) -> Parts:
    """Make benchmark (if none is given) and network.

    Args:
        benchmark: of the same scenario, or any stock Avalanche benchmark.
    Raises: ConfigError for values or pairs that cannot work.
    """
    device = resolve_device(config.device)
    with refusing(config):
        if benchmark is None:
            benchmark = build_benchmark(config, device)
        benchmark = from_avalanche(benchmark)
        check_fits(config, benchmark.info)
        head = head_kind(config, benchmark)
        networks, model, reference = _Networks(benchmark, head), config.model, None
        if config.is_matched:
            reference = networks.size(config.match_to)
            model = networks.matched(model, reference, config.match)
        size = networks.size(model)
        set_stream(stream_seeds(config).init, "initialisation")
        # With a head per experience, all are evaluated before they are trained.
        network = networks.with_heads(model, as_in_the_end=head == "multi").to(device)
        _fit_input_grid(network, benchmark)
        _compile_kernels(network)
        if next(network.parameters(), None) is None:
            raise ConfigError(
                f"model={model.name} with scenario.head={head} has nothing to train "
                "before its first classes come; nearest: scenario.head=single, or a "
                "hidden layer (model.hidden=[100])"
            )
        build_optimizer(config, network.parameters())
    return Parts(benchmark, network, head, size, reference, torch.get_rng_state())


def build_benchmark(config: RunConfig, device: torch.device) -> Benchmark:
    """The scenario's benchmark; its random draws depend on the seed of the order only."""
    check_fits(config)
    scenario, options = config.scenario, dict(config.scenario.options)
    if options.get("batches_per_experience") is not None:
        options["batch_size"] = config.training.batch_size
    seed = stream_seed(stream_seeds(config).order, "benchmark")
    supplied = {"data_dir": config.data_dir, "seed": seed, "device": device}
    made = GROUPS["scenario"].build(scenario.builder, **options, **supplied)
    return from_avalanche(made, name=scenario.name)


def build_optimizer(config: RunConfig, parameters: Iterable[nn.Parameter]) -> Optimizer:
    optimizer = config.optimizer
    return GROUPS["optimizer"].build(optimizer.builder, parameters, **optimizer.options)


def head_kind(config: RunConfig, benchmark: Benchmark) -> str:
    """Raises: ConfigError for a head that these targets cannot be learned with."""
    info = benchmark.info
    if config.head == "auto":
        return info.head
    if info.function is not None and config.head != "single":
        why = f"scenario={info.name} is a regression; nearest: scenario.head=single"
        raise ConfigError(
            f"scenario.head={config.head} is a head for classes, and {why}"
        )
    if (config.head == "multi") != (info.head == "multi"):
        raise ConfigError(
            f"scenario.head={config.head} does not go with scenario.incremental="
            f"{info.incremental}; nearest: scenario.head={info.head} (task-incremental "
            "streams have a head per experience)"
        )
    return config.head


def iterations_planned(config: RunConfig, benchmark: Benchmark) -> list[int]:
    """Iterations of each training, on the data of one experience (or of all)."""
    training = config.training
    sizes = [len(experience.dataset) for experience in benchmark.train_stream]
    if strategies.trains_jointly(config.strategy.builder):
        sizes = [sum(sizes)]
    if training.iterations is not None:
        return [training.iterations for _ in sizes]
    return [training.epochs * math.ceil(size / training.batch_size) for size in sizes]


def build_strategy(
    config: RunConfig,
    parts: Parts,
    observers: Sequence[SupervisedPlugin] = (),
    record: Record = lambda name, value: None,
) -> SupervisedTemplate:
    """Raises: ValueError for what can't work, saying what to use instead."""
    torch.set_rng_state(parts.random_state)  # some draw another last layer
    training, device = config.training, resolve_device(config.device)
    seeds = stream_seeds(config)
    plugins: list[SupervisedPlugin] = [SeedingPlugin(seeds=seeds), *observers]
    if training.early_stopping or training.restore_best:
        plugins.append(_best_epoch(config, parts.benchmark, record))
    if training.lr_gamma is not None:
        plugins.append(loop.EpochDecayPlugin(gamma=training.lr_gamma))
    if config.schedule == "linear":
        plugins.append(loop.LinearDecayPlugin())
    if training.experience_gamma is not None:  # behind what restores the full rate
        plugins.append(loop.ExperienceDecayPlugin(gamma=training.experience_gamma))
    if getattr(spline_network(parts.model), "lazy", False):
        plugins.append(LazyStepsPlugin())
    usual = 256 if device.type == "cpu" else 1000
    info = parts.benchmark.info
    setup = strategies.TrainingSetup(
        model=parts.model,
        optimizer=build_optimizer(config, parts.model.parameters()),
        criterion=info.score.loss(),
        batch_size=training.batch_size,
        epochs=training.epochs,
        iterations=training.iterations,
        eval_batch_size=training.eval_batch_size or usual,
        device=device,
        plugins=plugins,
        reset_optimizer=config.reset_optimizer,
        seed=stream_seed(seeds.buffers, "strategy"),
        learns_values=info.function is not None,
        image_shape=info.image_shape,
        pixels_permuted=info.pixels_permuted,
        record=record,
    )
    return strategies.build(config.strategy.builder, setup, **config.strategy.options)


def _best_epoch(
    config: RunConfig, benchmark: Benchmark, record: Record
) -> loop.BestEpochPlugin:
    """Raises: ConfigError without validation data, or epochs after which to look."""
    training = config.training
    key = "early_stopping" if training.early_stopping else "restore_best"
    if training.iterations is not None:
        raise ConfigError(
            f"training.{key} looks after each epoch, and training.iterations="
            f"{training.iterations} has none: set training.epochs instead"
        )
    if "validation" not in benchmark.streams:
        raise ConfigError(
            f"training.{key} needs data that decide, and test data never do: hold some "
            "out with scenario.validation=0.1"
        )
    return loop.BestEpochPlugin(
        stream=benchmark.streams["validation"],
        patience=training.early_stopping,
        restore=training.restore_best,
        record=record,
    )


def _fit_input_grid(model: nn.Module, benchmark: Benchmark) -> None:
    """On the first experience's training data; of the quantiles a sample is enough."""
    network = spline_network(model)
    kind = getattr(network, "input_grid", "uniform")
    if network is not None and kind != "uniform":
        dataset = next(iter(benchmark.train_stream)).dataset
        with torch.random.fork_rng(devices=[]):  # a stock transform may draw
            x, _, _ = as_tensors(dataset, 2_000 if kind == "quantile" else None)
        network.fit_input_grid(x.flatten(1))


def _compile_kernels(model: nn.Module) -> None:
    """Have a CPU's kernels compiled, if they are not, before any time is taken."""
    with torch.no_grad():
        for layer in kan_layers(model).values():
            if layer.coefficients.device.type == "cpu":
                layer(layer.coefficients.new_zeros(1, layer.in_features))


class _Networks:
    """Networks for a benchmark, and their sizes."""

    def __init__(self, benchmark: Benchmark, head: Any) -> None:
        self._benchmark, self._head = benchmark, head

    def bare(self, choice: Choice) -> nn.Module:
        """The network with all outputs in one layer."""
        info = self._benchmark.info
        sizes = choice.builder, info.in_features, info.n_outputs
        options = {**choice.options, "input_range": info.input_range}
        return GROUPS["model"].build(*sizes, **options)

    def with_heads(self, choice: Choice, *, as_in_the_end: bool = True) -> nn.Module:
        """The network with the heads of all experiences, or as it begins."""
        n_outputs = self._benchmark.info.n_outputs
        network = with_head(self.bare(choice), self._head, n_outputs)
        for experience in self._benchmark.train_stream if as_in_the_end else ():
            avalanche_model_adaptation(network, experience)
        return network

    def size(self, choice: Choice) -> Size:
        n, bare = cost.n_parameters(self.with_heads(choice)), self.bare(choice)
        active, flops = cost.n_active_parameters(bare), cost.forward_flops(bare)
        return Size(
            choice.name, tuple(choice.options.get("hidden", ())), n, active, flops
        )

    def matched(self, choice: Choice, reference: Size, by: Any) -> Choice:
        """The choice with the hidden widths that make it equal to the reference.

        Its depth stays; its hidden layers are made equally wide.
        """
        hidden = choice.options.get("hidden")
        if hidden is None:
            which = f"which model={choice.name} has not; nearest: match=none"
            raise ConfigError(f"match={by} needs a model with hidden widths, {which}")

        def sized(widths: Sequence[int]) -> Choice:
            return replace(choice, options={**choice.options, "hidden": tuple(widths)})

        if by == "width":
            return sized(reference.hidden)
        made = self.with_heads if by == "params" else self.bare
        target = reference.n_parameters if by == "params" else reference.flops
        hidden = cost.match_hidden(lambda w: made(sized(w)), len(hidden), target, by)
        return sized(hidden)
