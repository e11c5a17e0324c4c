"""Five Gaussian peaks, learned one after the other: the KAN paper's own experiment."""

import math

import torch
from avalanche.benchmarks import benchmark_from_datasets, with_task_labels
from torch import Tensor

from kancl.benchmarks.benchmark import Benchmark, BenchmarkInfo
from kancl.data.checks import check_count
from kancl.data.rows import Store, StoredSamples, rows_dataset

CENTRES = {
    1: torch.tensor([[-0.8], [-0.4], [0.0], [0.4], [0.8]]),
    2: torch.tensor([[-0.5, -0.5], [-0.5, 0.5], [0.0, 0.0], [0.5, -0.5], [0.5, 0.5]]),
}
"""By dimensions, ``(5, dimensions)``."""
REACH = {1: 0.2, 2: 0.25}  # of a phase's points, to all sides of its centre
SHARPNESS = {1: 300.0, 2: 100.0}
N_POINTS = {1: 100, 2: 400}


def peaks(x: Tensor) -> Tensor:
    """``sum_c exp(-sharpness |x - c|^2)``: ``(n, dimensions)`` -> ``(n,)``."""
    centres, sharpness = CENTRES[x.shape[1]].to(x), SHARPNESS[x.shape[1]]
    squares = (x.unsqueeze(1) - centres).square().sum(2)  # (n, 5)
    return (-sharpness * squares).exp().sum(1)


def gaussian_peaks(
    *,
    dimensions: int = 1,
    n_points: int | None = None,
    data_dir: str | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
) -> Benchmark:
    """Five Gaussian peaks on [-1, 1], a regression in five phases.

    Each experience is the neighbourhood of one peak, equispaced points; tested on the
    same points. Nothing is random. In one dimension the peaks share no part of the input,
    so that a local spline has nothing to forget; in two they share coordinates.

    Args:
        dimensions: 1: the peaks side by side; 2: the counter-example, four peaks in the
            corners of a square and one in the middle.
        n_points: points of each phase; null: 100 in one dimension, 20 x 20 in two.
    Raises: ValueError for options out of range, or a ``data_dir``.
    Source: Liu et al. 2024, arXiv:2404.19756, section 3.4; in two dimensions, pykan's
        issue 227.
    """
    if dimensions not in CENTRES:
        raise ValueError(f"dimensions={dimensions!r} must be 1 or 2")
    if n_points is None:
        n_points = N_POINTS[dimensions]
    check_count("n_points", n_points, 4)
    side = round(n_points ** (1 / dimensions))
    if side**dimensions != n_points:
        near = math.isqrt(n_points)
        raise ValueError(
            f"n_points={n_points} is no square number: in two dimensions take "
            f"{near**2} or {(near + 1) ** 2}"
        )
    if data_dir is not None:
        raise ValueError("gaussian_peaks reads no files: leave data_dir=null")
    steps = torch.linspace(-REACH[dimensions], REACH[dimensions], side)
    around = torch.cartesian_prod(*[steps] * dimensions).view(-1, dimensions)
    points = torch.cat([centre + around for centre in CENTRES[dimensions]])
    store = Store(points.to(device), (dimensions,))
    targets = peaks(points).split(n_points)
    rows = torch.arange(len(store.values)).split(n_points)
    datasets = [
        rows_dataset([StoredSamples(store, *each)]) for each in zip(rows, targets)
    ]
    scenario = with_task_labels(benchmark_from_datasets(train=datasets, test=datasets))
    info = BenchmarkInfo(
        name="gaussian_peaks",
        dataset="points",
        incremental="domain",
        n_experiences=len(targets),
        n_outputs=1,
        in_features=dimensions,
        image_shape=store.shape,
        input_range=(-1.0, 1.0),
        head="single",
        experience_classes=((),) * len(targets),
        class_names=(),
        function=peaks,
    )
    return Benchmark(list(scenario.streams.values()), info)
