"""Scenarios: genuine Avalanche benchmarks over images held in memory."""

from kancl.benchmarks.image_benchmark import (
    BenchmarkInfo,
    ExperiencePlan,
    ImageBenchmark,
    assemble,
)
from kancl.benchmarks.options import ImageOptions
from kancl.benchmarks.scenarios import (
    SCENARIOS,
    joint_mnist,
    permuted_mnist,
    rotated_mnist,
    split_mnist,
)
