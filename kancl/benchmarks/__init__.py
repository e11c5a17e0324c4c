"""Scenarios: genuine Avalanche benchmarks over images or points held in memory."""

from kancl.benchmarks.gaussian_peaks import gaussian_peaks
from kancl.benchmarks.image_benchmark import (
    Benchmark,
    BenchmarkInfo,
    ExperiencePlan,
    ImageOptions,
    assemble,
)
from kancl.benchmarks.scenarios import (
    SCENARIOS,
    joint_mnist,
    permuted_mnist,
    rotated_mnist,
    split_mnist,
)
