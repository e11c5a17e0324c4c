"""A regression is reported like a classification, with errors for accuracies."""

import csv
import io

import pytest

from kancl.reporting.figures import score_matrix
from kancl.reporting.report import benchmarks, compare, write_report
from kancl.reporting.report.figures import differences, stability_plasticity
from kancl.runs import find_runs


def outcome(config):
    """``(error just learned, error in the end)``: the KAN's grows by less."""
    learned, grown = {"kan": (0.01, 0.1), "mlp": (0.02, 0.4)}[config.model.name]
    return learned + 0.001 * config.seed, learned + grown + 0.004 * config.seed


@pytest.fixture
def runs(plant, tmp_path):
    words = ["scenario=gaussian_peaks", "model=kan,mlp", "seed=range(6)"]
    plant(*words, outcome=outcome, log_dir=tmp_path / "logs")
    return find_runs([tmp_path / "logs"])


def test_the_verdict_is_of_errors(runs):
    assert all(run.completed and not run.problems for run in runs)
    (benchmark,) = benchmarks(runs)
    (comparison,) = compare(benchmark)
    assert comparison.verdict == "KAN forgets less, and learns more"
    assert comparison.evidence.startswith(
        "old peaks' increase 0.3 lower (95 % interval: 0.3 to 0.3 lower), 6 paired seeds"
    )
    assert comparison.caveat == (
        "it learns more: learning RMSE 0.01 lower (95 % interval: 0.01 to 0.01 lower)"
    )
    assert benchmark.variants[0].curves.score.title == "RMSE"


def test_the_report_has_its_tables_curves_and_matrices(runs, tmp_path):
    report = write_report(runs, tmp_path / "out")
    page = report.page.read_text()
    assert page.count("RMSE matrix of") == 2 and "RMSE on each experience" in page
    assert (
        "RMSE matrices" in page
        and "points"
        not in page.partition("<footer>")[0][
            page.index('class="verdict') : page.index("<section id")
        ]
    )
    results = (tmp_path / "out" / "results.md").read_text()
    assert "| average RMSE | learning RMSE | old peaks' increase |" in results
    rows = csv.DictReader(io.StringIO((tmp_path / "out" / "results.csv").read_text()))
    metrics = {row["metric"]: row["mean"] for row in rows if row["model"] == "kan"}
    assert float(metrics["learning_rmse"]) == pytest.approx(0.0125)
    assert "average_accuracy" not in metrics
    assert [path.name for path in report.tensorboard] == ["kan-naive", "mlp-naive"]


def test_figures_are_in_the_unit_of_the_errors(runs):
    (benchmark,) = benchmarks(runs)
    lost, learned, _ = differences(compare(benchmark)).axes
    assert lost.get_xlim()[0] > -1 and "RMSE" in lost.get_xlabel()
    assert "← KAN learns more  |  less →" in learned.get_xlabel()
    axes = stability_plasticity(benchmark).axes[0]
    assert axes.xaxis_inverted()  # less is better, and the better lies to the right
    assert axes.get_xlabel() == "learning RMSE  (plasticity →)"
    matrix = benchmark.variants[0].matrices.mean(0)
    figure = score_matrix(matrix, "kan", score=benchmark.score)
    assert figure.axes[0].get_title() == "kan, 1 seed\nRMSE"
