"""Tables: what is in them, and what they refuse to hide."""

import io
import re

import pytest
from rich.console import Console

from kancl.reporting.comparison import comparison_table, run_table


def _summary(model="kan", strategy="naive", seed=0, status="completed", **changes):
    return {
        "scenario": "split_mnist-class",
        "model": model,
        "strategy": strategy,
        "seed": seed,
        "status": status,
        "average_accuracy": 0.194,
        "learning_accuracy": 0.981,
        "forgetting": 0.987,
        "backward_transfer": -0.987,
        "n_parameters": 508160,
        "flops": 2034000,
        "train_seconds": 13.25,
        "eval_seconds": 1.0,
        "undefined": {},
    } | changes


def _print(summaries, **console):
    file = io.StringIO()
    comparison_table(summaries).show(Console(file=file, **console))
    return file.getvalue()


def comparison_markdown(summaries):
    return comparison_table(summaries).markdown()


def _rows(text):
    """Cells by row of the Markdown table."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(rows[0], row)) for row in rows[2:]]


PAIR = [_summary(), _summary("mlp", average_accuracy=0.181, n_parameters=508010)]


def test_rows_are_runs_in_percent_and_the_last_is_kan_minus_mlp():
    kan, mlp, difference = _rows(comparison_markdown(PAIR))
    assert kan["average accuracy %"] == "19.4"
    assert mlp["average accuracy %"] == "18.1"
    assert (kan["parameters"], mlp["parameters"]) == ("508,160", "508,010")
    assert (kan["FLOPs per sample"], kan["training seconds"]) == ("2,034,000", "13.2")
    assert difference["model"] == "KAN - MLP"
    assert difference["average accuracy %"] == "+1.3"
    assert difference["forgetting %"] == "+0.0"
    assert difference["parameters"] == ""


def test_one_seed_is_called_one_seed():
    text = comparison_markdown(PAIR)
    assert "±" not in text
    assert "one seed has no error bar" in text


def test_differences_over_seeds_are_paired_with_their_interval():
    runs = [
        _summary(model, seed=seed, average_accuracy=accuracy)
        for model, accuracies in {
            "kan": [0.30, 0.50, 0.80],
            "mlp": [0.20, 0.45, 0.68],
        }.items()
        for seed, accuracy in enumerate(accuracies)
    ]
    kan, _, difference = _rows(comparison_markdown(runs))
    assert kan["runs"] == difference["runs"] == "3"
    assert kan["average accuracy %"] == "53.3"
    # differences 10, 5, 12 points: mean 9, s = 3.606, t(2) = 4.303: 4.303 s / sqrt(3)
    assert difference["average accuracy %"] == "+9.0 ± 9.0"


def test_seeds_that_only_one_side_ran_are_not_in_the_difference():
    runs = [*PAIR, _summary(seed=1, average_accuracy=0.9)]
    *_, difference = _rows(comparison_markdown(runs))
    assert difference["runs"] == "1"
    assert difference["average accuracy %"] == "+1.3"


def test_diverged_and_failed_runs_are_counted_and_named():
    runs = [
        *PAIR,
        _summary("mlp", seed=4, status="diverged", average_accuracy=None),
        _summary("mlp", seed=5, status="failed", average_accuracy=None),
    ]
    text = comparison_markdown(runs)
    assert _rows(text)[1]["runs"] == "1 of 3"
    assert "1 diverged, not in the means: mlp-naive seed 4" in text
    assert "1 failed, not in the means: mlp-naive seed 5" in text


def test_a_model_of_which_no_run_completed_has_no_numbers():
    runs = [_summary(), _summary("mlp", status="diverged")]
    kan, mlp = _rows(comparison_markdown(runs))  # and no difference
    assert mlp["runs"] == "0 of 1"
    assert mlp["average accuracy %"] == "n/a"


def test_an_undefined_metric_says_why_once():
    reason = "the run was trained jointly"
    undefined = {"forgetting": reason, "backward_transfer": reason}
    runs = [
        _summary(m, forgetting=None, backward_transfer=None, undefined=undefined)
        for m in ["kan", "mlp"]
    ]
    text = comparison_markdown(runs)
    assert _rows(text)[0]["forgetting %"] == "n/a"
    assert _rows(text)[-1]["forgetting %"] == "n/a"
    assert text.count(reason) == 1
    assert f"n/a forgetting, backward transfer: {reason}" in text


def test_every_strategy_has_a_difference_of_its_own():
    runs = [_summary(m, s) for m in ["kan", "mlp"] for s in ["naive", "ewc"]]
    names = [(r["model"], r["strategy"]) for r in _rows(comparison_markdown(runs))]
    assert names[-2:] == [("KAN - MLP", "naive"), ("KAN - MLP", "ewc")]


def test_every_kind_of_kan_is_compared():
    runs = [_summary("kan"), _summary("kan_local"), _summary("mlp")]
    names = [row["model"] for row in _rows(comparison_markdown(runs))]
    assert names[-2:] == ["KAN - MLP", "kan_local - MLP"]


def test_a_model_of_ones_own_is_compared_with_the_mlp_or_is_the_reference_of_the_kan():
    runs = [_summary("kan"), _summary("mine"), _summary("mlp"), _summary("yours")]
    names = [row["model"] for row in _rows(comparison_markdown(runs))]
    assert names[-3:] == ["KAN - MLP", "mine - MLP", "yours - MLP"]
    names = [row["model"] for row in _rows(comparison_markdown(runs[:2]))]
    assert names[-1] == "KAN - mine"


def test_errors_stand_where_a_regression_has_no_accuracies():
    errors = {"average_rmse": 0.125, "learning_rmse": 0.01, "average_accuracy": None}
    runs = [_summary(m, **errors) for m in ["kan", "mlp"]]
    for run in runs:
        del run["average_accuracy"], run["forgetting"]
    kan, _, difference = _rows(comparison_markdown(runs))
    assert kan["average RMSE"] == "0.12" and difference["learning RMSE"] == "+0"
    assert "average accuracy %" not in kan


def test_scenarios_are_never_mixed():
    runs = [*PAIR, _summary(scenario="permuted_mnist-domain", average_accuracy=0.8)]
    rows = _rows(comparison_markdown(runs))
    assert [row["scenario"] for row in rows].count("permuted_mnist-domain") == 1
    assert rows[-1]["scenario"] == "split_mnist-class"
    assert rows[0]["average accuracy %"] == "19.4"


def test_runs_of_one_seed_with_other_settings_are_not_paired():
    text = comparison_markdown([*PAIR, _summary(average_accuracy=0.7)])
    assert "KAN - MLP" not in text
    assert "kan-naive: several runs of one seed, so not paired" in text


def test_no_runs_are_refused():
    with pytest.raises(ValueError, match="no runs"):
        comparison_table([])


def test_a_wide_terminal_gets_one_table():
    text = _print(PAIR, force_terminal=True, width=140)
    assert text.count("model") == 1


@pytest.mark.parametrize("width", [80, 90])
def test_a_narrow_terminal_gets_two_tables_and_loses_nothing(width):
    text = _print(PAIR, force_terminal=True, width=width)
    plain = re.sub(r"\x1b\[[\d;]*m", "", text)
    assert plain.count("model") == 2
    assert "…" not in plain
    assert max(len(line) for line in plain.splitlines()) <= width
    for number in ["19.4", "98.1", "98.7", "+1.3", "508,160", "2,034,000", "13.2"]:
        assert number in plain


def test_where_there_is_no_terminal_it_is_plain_and_whole():
    text = _print(PAIR, force_terminal=False, width=40)
    assert "\x1b" not in text and "…" not in text
    assert "2,034,000" in text


def test_one_run_shows_its_status_and_reasons():
    file = io.StringIO()
    summary = _summary(forgetting=None, undefined={"forgetting": "a single experience"})
    run_table(summary).show(Console(file=file))
    text = file.getvalue()
    assert "completed" in text
    assert "n/a (a single experience)" in text


def test_every_cost_that_was_recorded_is_in_the_table():
    cost = {
        "n_active_parameters": 254_080,
        "training_flops": 1.53e11,
        "iterations_per_second": 71.6,
        "peak_memory_bytes": 3 * 2**30,
        "strategy_state_bytes": 1536,
    }
    row = _rows(comparison_markdown([_summary(**cost), _summary("mlp", **cost)]))[0]
    assert row["active per sample"] == "254,080"
    assert row["training FLOPs"] == "153 G"
    assert row["iterations / second"] == "72"
    assert row["peak memory"] == "3.0 GiB"
    assert row["strategy memory"] == "1.5 KiB"
    text = _print([_summary(**cost)], force_terminal=True, width=80)
    plain = re.sub(r"\x1b\[[\d;]*m", "", text)
    assert max(len(line) for line in plain.splitlines()) <= 80
    assert "254,080" in plain and "1.5 KiB" in plain and "…" not in plain
