"""Tables: what is in them, and what they refuse to hide."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from kancl.reporting.comparison import comparison_table, run_table
from kancl.runs import Run


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


def _table(summaries):
    runs = []
    for s in summaries:
        scenario, _, incremental = s["scenario"].partition("-")
        groups = {"scenario": {"name": scenario, "incremental": incremental}}
        groups |= {group: {"name": s[group]} for group in ("model", "strategy")}
        config = {**groups, "seed": s["seed"], "optimizer": {"lr": s.get("lr", 0.1)}}
        runs.append(Run(Path(), config, {}, s, s["status"], recomputed=s))
    return comparison_table(runs)


def _print(summaries, **console):
    file = io.StringIO()
    _table(summaries).show(Console(file=file, **console))
    return re.sub(r"\x1b\[[\d;]*m", "", file.getvalue())


def comparison_markdown(summaries):
    return _table(summaries).markdown()


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
    assert kan["seeds"] == difference["seeds"] == "3"
    # s = 25.17, t(2) = 4.303: 4.303 s / sqrt(3) = 62.5
    assert kan["average accuracy %"] == "53.3 ± 62.5"
    # differences 10, 5, 12 points: mean 9, s = 3.606, t(2) = 4.303: 4.303 s / sqrt(3)
    assert difference["average accuracy %"] == "+9.0 ± 9.0"


def test_seeds_that_only_one_side_ran_are_not_in_the_difference():
    runs = [*PAIR, _summary(seed=1, average_accuracy=0.9)]
    *_, difference = _rows(comparison_markdown(runs))
    assert difference["seeds"] == "1"
    assert difference["average accuracy %"] == "+1.3"


def test_diverged_and_failed_runs_are_counted_and_named():
    runs = [
        *PAIR,
        _summary("mlp", seed=4, status="diverged", average_accuracy=None),
        _summary("mlp", seed=5, status="failed", average_accuracy=None),
    ]
    text = comparison_markdown(runs)
    assert _rows(text)[1]["seeds"] == "1 of 3"
    assert "1 diverged, not in the means: mlp-naive seed 4" in text
    assert "1 failed, not in the means: mlp-naive seed 5" in text


def test_a_model_of_which_no_run_completed_has_no_numbers():
    runs = [_summary(), _summary("mlp", status="diverged")]
    kan, mlp = _rows(comparison_markdown(runs))  # and no difference
    assert mlp["seeds"] == "0 of 1"
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
    assert [row["scenario"] for row in rows].count("permuted_mnist domain") == 1
    assert rows[-1]["scenario"] == "split_mnist class"
    (kan,) = (
        r for r in rows if (r["model"], r["scenario"]) == ("kan", rows[-1]["scenario"])
    )
    assert kan["average accuracy %"] == "19.4"
    runs = [*PAIR, *(run | {"scenario": "split_mnist-task"} for run in PAIR)]
    rows = _rows(comparison_markdown(runs))  # only what tells them apart
    assert [row["scenario"] for row in rows] == ["class", "class", "task", "task"] + [
        "class",
        "task",
    ]


def test_runs_of_other_settings_have_rows_of_their_own():
    others = [run | {"lr": 0.01, "average_accuracy": 0.7} for run in PAIR]
    rows = _rows(comparison_markdown([*PAIR, *others]))
    assert [r["settings"] for r in rows] == ["lr=0.01", "lr=0.1"] * 3
    assert {r["average accuracy %"] for r in rows[:2]} == {"19.4", "70.0"}
    assert "settings" not in _rows(comparison_markdown(PAIR))[0]


def test_a_seed_that_was_run_twice_counts_once_and_is_named():
    text = comparison_markdown([*PAIR, _summary(average_accuracy=0.7)])
    assert _rows(text)[0]["average accuracy %"] == "19.4"
    assert "kan-naive: counted once, though run again: seed 0" in text


def test_no_runs_are_refused():
    with pytest.raises(ValueError, match="no runs"):
        comparison_table([])


SEEDS = [
    _summary(model, strategy, seed=seed, average_accuracy=0.2 + shift - 0.001 * seed)
    | {"forgetting": 0.9 - 5 * shift + 0.002 * seed * (model != "mlp")}
    for strategy in ("naive", "labels_trick_gram")
    for model, shift in (("kan_local", 0.06), ("mlp", 0.02))
    for seed in range(6)
]


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_one_table_that_fits(width):
    text = _print(SEEDS, force_terminal=True, width=width)
    assert text.count("verdict") == 1 and "…" not in text
    assert max(len(line) for line in text.splitlines()) <= width
    # of 6 seeds 0 to 5: s = 0.187 points, t(5) = 2.571: 2.571 s / sqrt(6) = 0.2
    for words in ["25.8 ± 0.2", "60.5 ± 0.4", "+4.0 ± 0.0", "-19.5 ± 0.4"]:
        assert words in text
    assert "kan_local: 508,160 parameters, 2,034,000 FLOPs per sample, 13.2 s" in text
    words = " ".join(text.split())
    assert "forgets less" in words if width == 120 else "forgets" in words
    files = _table(SEEDS)
    assert "508,160" in files.markdown() and "backward transfer %" in files.csv()


def test_the_verdict_stands_beside_its_difference():
    rows = _rows(comparison_markdown(SEEDS))
    assert [row["verdict"] for row in rows] == [""] * 4 + ["forgets less"] * 2
    rows = _rows(comparison_markdown(SEEDS[:2] + SEEDS[6:8]))
    assert rows[-1]["verdict"] == "too few seeds"


def test_where_there_is_no_terminal_it_is_plain_and_whole():
    text = _print(SEEDS, force_terminal=False, width=40)
    assert "\x1b" not in text and "…" not in text
    assert "kan_local - MLP  labels_trick_gram" in text and "2,034,000" in text


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
