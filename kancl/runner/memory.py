"""What a run needs of the memory at least, and the key to change where that is too much."""

from bisect import bisect_right
from typing import Any

import torch

from kancl.benchmarks.benchmark import BenchmarkInfo
from kancl.benchmarks.plans import LONGEST
from kancl.config import Choice, ConfigError, RunConfig, plain, typed
from kancl.config.files import flat
from kancl.config.schema import CHOICES
from kancl.config.typed import all_options
from kancl.config.values import shown
from kancl.data.checks import free_memory
from kancl.data.images import SOURCES
from kancl.models.cost import n_parameters
from kancl.runner.machine import resolve_device
from kancl.runner.registry import GROUPS

N_IMAGES = 70_000  # of a data set, about; most are used for training
NUMBER, MEASUREMENT = 4, 150  # bytes of a float32, of a row of measurements
MOMENTS = {"adam": 2, "adamw": 2}  # that an optimizer keeps of each parameter
WIDEST = 2**24  # inputs: the data alone fit nowhere
MOST = 2**63


def check_fits(config: RunConfig, info: BenchmarkInfo | None = None) -> None:
    """Refuse what can't fit into memory, before any is taken.

    The value to take instead leaves half of what is free: while a checkpoint is written,
    runs were seen to take twice of what they need.

    Args:
        info: of the benchmark, if it is built already.
    Raises: ConfigError naming the key at fault and a value that would do.
    """
    free = free_memory(resolve_device(config.device))
    least = needed(config, info)
    if least <= free:
        return
    fitting, changes = config, dict[str, Any]()
    while (now := needed(fitting, info)) > free:
        sizes = _sizes(fitting)
        of_one = {
            k: needed(_with(fitting, k, _cut(v, 1)), info) for k, v in sizes.items()
        }
        enough = [key for key, bytes_then in of_one.items() if bytes_then <= free]
        key = max(enough, key=lambda k: _above_default(config, k, sizes[k]), default="")
        key = key or min(of_one, key=of_one.__getitem__)
        if of_one[key] >= now:
            break
        changes[key] = _largest(fitting, info, key, sizes[key], free // 2)
        fitting = _with(fitting, key, changes[key])
    values = flat(plain(config))
    culprits = " with ".join(f"{key}={shown(values[key])}" for key in changes)
    nearest = " ".join(f"{key}={shown(value)}" for key, value in changes.items())
    raise ConfigError(
        f"{culprits or 'the run'} takes {least / 2**30:,.1f} GiB of memory or more, and "
        f"{free / 2**30:,.1f} GiB are free; nearest: {nearest or 'a larger machine'}"
    )


def needed(config: RunConfig, info: BenchmarkInfo | None = None) -> int:
    """Bytes that a run takes at least: its data, its network with gradients and the
    optimizer's moments, the values of one batch, and what is measured.
    """
    options, training = config.scenario.options, config.training
    n = min(options.get("n_experiences") or 1, LONGEST)
    n_features, n_classes = (info.in_features, info.n_outputs) if info else (1, 1)
    data, n_train = 100 * (options.get("n_points") or 0), 1
    if source := SOURCES.get(options.get("dataset", "")):
        channels, *sides = source.shape
        height, width = (side + 2 * options.get("pad", 0) for side in sides)
        n_features, n_classes = channels * height * width, len(source.class_names)
        n_train, n_test = (
            min(options.get(f"{stream}_samples") or N_IMAGES, N_IMAGES)
            for stream in ("train", "test")
        )
        n_own, n_train = min(n_train + n_test, N_IMAGES), min(n_train, N_IMAGES // n)
        turned = (
            n if "angles" in options else 1
        )  # each experience has images of its own
        data = (N_IMAGES + n_own * turned) * n_features
    choice = config.match_to if config.is_matched else config.model
    network, n_values = _network(choice, n_features, n_classes)
    copies = 2 + MOMENTS.get(config.optimizer.builder, 0)
    copies += n * config.evaluation.locality
    batch = min(training.batch_size, n_train) * (n_features + n_values)
    n_points = min(
        config.evaluation.points_per_experience * bool(config.evaluation.samples),
        training.iterations or training.epochs,
    )
    measured = n * (n + 1) // 2 * (2 + n_points) * MEASUREMENT
    return min(MOST, data + NUMBER * (network * copies + batch) + measured)


def _network(choice: Choice, n_features: int, n_outputs: int) -> tuple[int, int]:
    """Numbers in a network, and values that a sample passes on; made without memory."""
    given = choice.builder, n_features, n_outputs
    if n_features > WIDEST:
        return 0, 0
    try:
        with torch.device("meta"):
            network = GROUPS["model"].build(
                *given, **choice.options, input_range=(0, 1)
            )
    except ValueError:  # what is wrong with it is said when it is built
        return 0, 0
    except Exception as error:
        # Torch can't count so many; or a builder of one's own can't do without memory.
        return (MOST, 0) if "overflow" in str(error).lower() else (0, 0)
    buffers = sum(buffer.numel() for buffer in network.buffers())
    widths = (getattr(layer, "out_features", 0) for layer in network.modules())
    return n_parameters(network) + buffers, sum(widths)


def _sizes(config: RunConfig) -> dict[str, Any]:
    """The keys whose values are whole numbers or lists of them."""
    values = flat(plain(config)).items()
    lists = {k: v if isinstance(v, list) else [v] for k, v in values}
    whole = (k for k, v in lists.items() if v and all(type(x) is int for x in v))
    found = dict(values)
    return {k: found[k] for k in whole if max(lists[k]) > 1}


def _above_default(config: RunConfig, key: str, value: Any) -> float:
    """How many times its default a value is."""
    builders = {choice: getattr(config, choice).builder for choice in CHOICES}
    default = all_options(GROUPS, builders)[key].default
    largest = max(value) if isinstance(value, list) else value
    usual = max(default, default=1) if isinstance(default, tuple) else default
    return float(largest / (usual or 1))


def _cut(value: Any, most: int) -> Any:
    return (
        [min(v, most) for v in value] if isinstance(value, list) else min(value, most)
    )


def _with(config: RunConfig, key: str, value: Any) -> RunConfig:
    """The run with another value; of the model that it is matched to, too, if shared."""
    values = flat(plain(config))
    other = key.replace("model.", "match_to.", 1)
    same = {k for k in (key, other) if values.get(k) == values[key]}
    return typed(values | dict.fromkeys(same, value), GROUPS)


def _largest(
    config: RunConfig, info: BenchmarkInfo | None, key: str, value: Any, most: int
) -> Any:
    """The largest value, to two digits, that needs no more than ``most``; 1 if none does."""
    end = max(value) if isinstance(value, list) else value
    n = bisect_right(
        range(1, min(end, MOST)),
        most,
        key=lambda n: needed(_with(config, key, _cut(value, n)), info),
    )
    digits = 10 ** max(0, len(str(n)) - 2)
    return _cut(value, max(1, n // digits * digits))
