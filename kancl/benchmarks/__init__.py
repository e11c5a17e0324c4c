"""Scenarios: genuine Avalanche benchmarks over images, arrays or points in memory."""

from kancl.benchmarks.benchmark import Benchmark, BenchmarkInfo
from kancl.benchmarks.gaussian_peaks import gaussian_peaks
from kancl.benchmarks.own_data import from_arrays, from_avalanche, from_datasets
from kancl.benchmarks.plans import ExperiencePlan, StreamOptions
from kancl.benchmarks.scenarios import (
    SCENARIOS,
    joint_mnist,
    permuted_mnist,
    rotated_mnist,
    split_mnist,
)
from kancl.benchmarks.streams import assemble
