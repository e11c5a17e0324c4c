"""Looking at a run every iteration changes nothing in it, and its numbers are kept."""

from __future__ import annotations

import csv

import pytest
import torch

from kancl.metrics.continual import CONTINUAL_METRICS
from kancl.reporting.report import benchmarks, tables
from kancl.runs import read_run

LOOKS = ["evaluation.every_iterations=1", "evaluation.samples=20"]  # all there are
FEW = ["scenario.n_experiences=2", "keep_model=true"]


@pytest.mark.parametrize(
    "words",
    [
        ["model=kan", "strategy=naive"],
        ["model=mlp", "model.dropout=0.5", "strategy=replay", "strategy.mem_size=8"],
    ],
)
def test_parameters_and_batches_are_the_same_to_the_bit(make_run, words):
    (_, without), (_, with_it) = (
        make_run(*FEW, *words, *looks) for looks in (["evaluation.samples=0"], LOOKS)
    )
    states = [torch.load(folder / "model.pt") for folder in (without, with_it)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    left = {"curve_accuracy", "strategy_state_bytes"}
    series = [_series(folder, left) for folder in (without, with_it)]
    assert series[0] == series[1] and len(series[0]) > 10


def _series(folder, left):
    with (folder / "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["name"] not in left]


def test_metrics_between_boundaries_come_out_of_the_raw_series_again(make_run):
    summary, folder = make_run(*FEW, *LOOKS)
    run = read_run(folder)
    assert run.problems == ()
    for metric in CONTINUAL_METRICS:
        assert run.recomputed[metric] == summary[metric]
    assert 0 <= summary["minimum_accuracy"] <= run.matrix[-1, 0] + 1e-6
    table = tables.continual(benchmarks([run])[0])
    assert table is not None
    row = dict(zip((c.name for c in table.columns), table.texts(table.rows)[0]))
    assert row["min-ACC %"] == f"{100 * summary['minimum_accuracy']:.1f}"
    assert row["stability gap %"] == f"{100 * summary['stability_gap']:.1f}"


def test_without_a_curve_they_say_why_and_no_table_is_shown(make_run):
    summary, folder = make_run(*FEW, "evaluation.samples=0")
    assert summary["worst_case_accuracy"] is None
    assert "evaluation.samples=0" in summary["undefined"]["worst_case_accuracy"]
    assert tables.continual(benchmarks([read_run(folder)])[0]) is None
