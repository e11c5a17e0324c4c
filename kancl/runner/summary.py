"""What a run says of itself in summary.json."""

from dataclasses import asdict
from typing import Any

import torch

from kancl.config import RunConfig
from kancl.models.cost import forward_flops, n_active_parameters, n_parameters
from kancl.observe.recorder import RecorderPlugin
from kancl.runner.build import Parts
from kancl.runner.machine import resolve_device
from kancl.runner.seeding import stream_seeds
from kancl.runs import all_metrics
from kancl.strategies import trains_last_layer_only

STATE_BYTES = "strategy_state_bytes"
"""Name of the measurements of what a strategy keeps, after each experience."""


def identity(config: RunConfig, parts: Parts) -> dict[str, Any]:
    """What is run."""
    info, size = parts.benchmark.info, parts.size
    return {
        "scenario": f"{config.scenario.name}-{info.incremental}",
        "n_experiences": info.n_experiences,
        "model": config.model.name,
        "strategy": config.strategy.name,
        "optimizer": config.optimizer.name,
        "seed": config.seed,
        "seeds": asdict(stream_seeds(config)),
        "head": parts.head,
        "hidden": list(size.hidden),
        "match": config.match,
        "matched_to": asdict(parts.reference) if parts.reference else None,
        "n_parameters": size.n_parameters,
        "n_active_parameters": size.n_active_parameters,
        "flops": size.flops,
    }


def results(
    config: RunConfig, parts: Parts, recorder: RecorderPlugin
) -> dict[str, Any]:
    """Metrics (undefined ones are None and say why) and costs, where they can be told.

    The peak of memory is the GPU's; that of a process on a CPU is no run's own. FLOPs
    are of the current experiences' samples: what a strategy adds is not counted.
    """
    found: dict[str, Any] = {}
    flops, passes = parts.size.flops, 3  # forward and backward, by custom
    if trains_last_layer_only(config.strategy.builder):
        # frozen features and a last layer took the network's place
        flops, passes = forward_flops(parts.model), 1
        found["n_parameters"] = n_parameters(parts.model)
        found["n_active_parameters"] = n_active_parameters(parts.model)
        found["flops"] = flops
    found |= all_metrics(recorder.matrix, recorder.measurements, recorder.score)
    n_iterations, seconds = recorder.iteration, recorder.train_seconds
    n_samples = n_iterations * config.training.batch_size
    found |= {
        "n_iterations": n_iterations,
        "train_seconds": seconds,
        "eval_seconds": recorder.eval_seconds,
        "training_flops": passes * flops * n_samples,
    }
    if seconds:
        found["iterations_per_second"] = n_iterations / seconds
    device = resolve_device(config.device)
    if device.type == "cuda":
        found["peak_memory_bytes"] = torch.cuda.max_memory_allocated(device)
    _, state_bytes = recorder.series(STATE_BYTES)
    if state_bytes:
        found["strategy_state_bytes"] = int(state_bytes[-1])
    return found
