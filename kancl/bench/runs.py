"""How long whole runs take: kancl beside stock Avalanche, with efficient-kan and an MLP.

A run is Split MNIST, class-incremental and naive: five experiences, one epoch each,
every test experience evaluated after each, TensorBoard on, Adam, standardised pixels.
kancl's variant is ``kancl run`` as it comes, with its forgetting curves and pictures; the
other is Avalanche's own benchmark, strategy, accuracy metrics and TensorBoard logger,
around efficient-kan's KAN with its defaults (a factor per edge more than kancl's), or an
MLP as large as kancl's. All take turns in one process, on the CPU; a short run of each,
not counted, goes before, so that nobody is charged for imports. "Times" says how many of
kancl's runs fit into one.

    kancl bench runs --efficient-kan PATH_OF_A_CHECKOUT --csv runs.csv
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Literal

import torch
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.logging import TensorboardLogger
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive
from torch import nn

from kancl.bench.harness import (
    Prepare,
    Rows,
    Timing,
    command,
    finished_run,
    take_turns,
)
from kancl.bench.others import (
    load_efficient_kan,
    stock_split_mnist,
    torchvision_folder,
    train_and_evaluate,
)
from kancl.models import MLP
from kancl.models.cost import n_parameters
from kancl.runner import build, read_request

EVAL_BATCH_SIZE = 256
WARM_UP_SAMPLES = 20

Outcome = tuple[float, float]
"""Average accuracy after the last experience, learning accuracy."""

Make = Callable[[], nn.Module]


def bench_runs(
    *,
    efficient_kan: str | None = None,
    batch_size: int = 64,
    repeats: int = 3,
    samples: int | None = None,
    models: Sequence[Literal["kan", "mlp"]] = ("kan", "mlp"),
) -> Iterator[Rows]:
    """Time whole runs of all variants in turns.

    Args:
        efficient_kan: a checkout of it; without, there is no stock run of a KAN.
        samples: train and test on so many images of each class, for a quick look.
        models: kan: [784, 64, 10], G=5, cubic; mlp: with as many parameters.
    """
    words: dict[str, list[str]] = {}
    makes: dict[str, Make] = {}
    sizes: dict[tuple[str, str], int] = {}
    for model in models:
        words[model] = _words(model, batch_size)
        one_image = [*words[model], *_few(1)]
        size = build(read_request(one_image, sweep=False).configs[0]).size
        sizes["kancl", model] = size.n_parameters
        if model == "mlp":
            makes["Avalanche"] = partial(MLP, [784, *size.hidden, 10])
            sizes["Avalanche", model] = n_parameters(makes["Avalanche"]())
        elif efficient_kan is not None:
            make = partial(load_efficient_kan(efficient_kan), [784, 64, 10])
            makes["Avalanche + efficient-kan"] = make
            sizes["Avalanche + efficient-kan", model] = n_parameters(make())

    def prepare(variant: tuple[str, str], n: int | None, data: Path) -> Prepare:
        name, model = variant
        if name == "kancl":
            return lambda seed: partial(_ours, [*words[model], *_few(n)], seed)
        return lambda seed: partial(_stock, makes[name], batch_size, data, seed)

    timings: dict[tuple[str, str], Timing] = {}
    for turns, n in ((1, WARM_UP_SAMPLES), (repeats, samples)):
        with torchvision_folder(n) as data:
            variants = {variant: prepare(variant, n, data) for variant in sizes}
            timings = take_turns(variants, turns)
    yield [
        {
            "variant": name,
            "model": model,
            "parameters": sizes[name, model],
            **timing.cells(timings["kancl", model]),
            "accuracy": fmean(average for average, _ in timing.results),
            "learning": fmean(learning for _, learning in timing.results),
        }
        for (name, model), timing in timings.items()
    ]


def _words(model: str, batch_size: int) -> list[str]:
    words = [
        "scenario=split_mnist",
        "scenario.normalize=standard",
        f"model={model}",
        "strategy=naive",
        f"training.batch_size={batch_size}",
        f"training.eval_batch_size={EVAL_BATCH_SIZE}",
        "device=cpu",
    ]
    return words + ["match=params"] * (model == "mlp")


def _few(samples: int | None) -> list[str]:
    """So many images of each of an experience's two classes."""
    n = "null" if samples is None else 2 * samples
    return [f"scenario.train_samples={n}", f"scenario.test_samples={n}"]


def _ours(words: Sequence[str], seed: int) -> Outcome:
    """``kancl run``, into a folder of its own, on the images in the package."""
    with tempfile.TemporaryDirectory() as folder:
        summary = finished_run([*words, f"seed={seed}", f"log_dir={folder!r}"])
    return summary["average_accuracy"], summary["learning_accuracy"]


def _stock(make: Make, batch_size: int, data: Path, seed: int) -> Outcome:
    """Avalanche alone, on the same images as torchvision reads them."""
    torch.manual_seed(seed)
    benchmark = stock_split_mnist(data)
    model = nn.Sequential(nn.Flatten(), make())
    with tempfile.TemporaryDirectory() as folder:
        board = TensorboardLogger(folder)
        learner = Naive(
            model=model,
            optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
            train_mb_size=batch_size,
            eval_mb_size=EVAL_BATCH_SIZE,
            evaluator=EvaluationPlugin(
                accuracy_metrics(epoch=True, experience=True, stream=True),
                loggers=[board],
            ),
        )
        metrics = train_and_evaluate(learner, benchmark)
        board.writer.close()
    name = "Top1_Acc_Exp/eval_phase/test_stream/Task000/Exp{:03d}"
    rows = [[row[name.format(k)] for k in range(len(metrics))] for row in metrics]
    return fmean(rows[-1]), fmean(row[k] for k, row in enumerate(rows))


main = command(bench_runs)
