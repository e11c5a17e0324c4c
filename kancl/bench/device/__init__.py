"""Everything to check on a device, in one table: ``kancl bench device``.

Equality with the CPU in float64, gradients, determinism, time and memory of a training
step beside the MLP with as many parameters, CUDA graphs, ten seeds side by side, full
Split MNIST runs, and every strategy under every head. ``--small`` cuts all of it to what
a CPU does in seconds (with ``TRITON_INTERPRET=1`` the fused path, too), so that the
script cannot rot where there is no GPU. A check that fails makes the exit code 1.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from kancl.bench.device.layers import (
    check_determinism,
    check_equality,
    check_gradients,
)
from kancl.bench.device.report import Report
from kancl.bench.device.runs import check_runs, check_strategies
from kancl.bench.device.seeds import check_seeds_by_graphs, check_seeds_by_vmap
from kancl.bench.device.steps import measure_compiled, measure_graphs, measure_steps

__all__ = ["CHECKS", "Report", "bench_device", "main"]

CHECKS: dict[str, Callable[[Report], None]] = {
    "equality": check_equality,
    "gradients": check_gradients,
    "determinism": check_determinism,
    "steps": measure_steps,
    "graphs": measure_graphs,
    "compiled": measure_compiled,
    "vmap": check_seeds_by_vmap,
    "streams": check_seeds_by_graphs,
    "runs": check_runs,
    "strategies": check_strategies,
}
"""All but the last two do without Avalanche."""


def bench_device(
    device: torch.device, small: bool, only: Sequence[str] = tuple(CHECKS)
) -> Report:
    """Run the checks on ``device`` and return the table; an error is a failed row."""
    report = Report(device, small)
    name = torch.cuda.get_device_name(device) if report.cuda else device.type
    report.add("device", f"{name}, torch {torch.__version__}")
    for check in only:
        with report.guarded(check):
            CHECKS[check](report)
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; exit code 1 if a check fails."""
    parser = argparse.ArgumentParser(prog="kancl bench device", description=__doc__)
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cpu", "cuda"), default=default)
    parser.add_argument("--small", action="store_true", help="seconds on a CPU")
    parser.add_argument(
        "--only", nargs="+", choices=tuple(CHECKS), default=tuple(CHECKS)
    )
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args(argv)
    report = bench_device(torch.device(options.device), options.small, options.only)
    report.print()
    if options.json:
        options.json.write_text(json.dumps(report.rows, indent=1))
    return 1 if report.failed else 0
