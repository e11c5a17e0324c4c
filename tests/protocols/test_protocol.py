"""Published protocols can be run as they are written, and the rule fails both ways."""

import re
from importlib import resources

import numpy as np
import pytest

from kancl.config import ConfigError
from kancl.protocols import (
    Judgement,
    Row,
    protocol_names,
    read_protocol,
)
from kancl.runner.check import check
from kancl.runner.request.compose import read_request

ROW = Row("none", ("strategy=naive",), "task", paper=84.32, sem=0.99)
# seeds' spread: s = 2, n = 4: SEM 1 point; no paper's seeds: Student's t for our four
OURS = [82.0 / 100, 82.0 / 100, 85.4641 / 100, 85.4641 / 100]
TOLERANCE = 3.18245 * (0.99**2 + 1.0) ** 0.5 + 0.3


def shifted(mean):
    """Four accuracies of that mean, in percent, with a standard error of 1."""
    middle = sum(OURS) / 4
    return [accuracy - middle + mean / 100 for accuracy in OURS]


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        (0.0, "PASS"),
        (TOLERANCE - 0.01, "PASS"),
        (-TOLERANCE + 0.01, "PASS"),
        (TOLERANCE + 0.01, "FAIL"),  # too good
        (-TOLERANCE - 0.01, "FAIL"),
    ],
)
def test_the_rule_fails_both_ways(difference, verdict):
    judgement = Judgement(ROW, shifted(84.32 + difference))
    assert judgement.sem == pytest.approx(1.0, abs=1e-4)
    assert judgement.tolerance == pytest.approx(TOLERANCE, abs=1e-3)
    assert judgement.difference == pytest.approx(difference)
    assert judgement.verdict == verdict


def test_an_error_that_the_paper_does_not_give_is_none():
    row = Row("er", incremental="class", paper=88.79)
    assert Judgement(row, shifted(88.79 + 3.4)).verdict == "PASS"
    assert Judgement(row, shifted(88.79 + 3.6)).verdict == "FAIL"


def test_what_is_no_gate_is_shown_and_lost_runs_fail_a_gate():
    shown = Row("si", incremental="task", gate=False, paper=99.20)
    assert Judgement(shown, [0.5, 0.6]).verdict == "shown"
    assert Judgement(ROW, shifted(84.32), n_lost=1).verdict == "FAIL"
    assert Judgement(ROW, [], n_lost=2).cells["ours %"] == "none completed"
    assert Judgement(ROW, [0.84]).verdict == "shown"  # one seed has no error


@pytest.mark.parametrize("n", [1, 2])
def test_few_seeds_close_together_prove_no_small_error(n):
    """Of 20 seeds with SEM 0.99: spread 4.43, at most 6.07 by chi^2; t = 2.093."""
    tolerance = 2.09302 * 0.99 * (1 + 20 * 1.370418**2 / n) ** 0.5 + 0.3
    for factor, verdict in ((0.999, "PASS"), (1.001, "FAIL")):
        for sign in (1, -1):
            ours = [(84.32 + sign * factor * tolerance) / 100] * n
            judgement = Judgement(ROW, ours, paper_seeds=20)
            assert judgement.tolerance == pytest.approx(tolerance, rel=1e-4)
            assert judgement.verdict == verdict
    without = Row("er", incremental="class", paper=88.79)
    assert Judgement(without, [0.8879], paper_seeds=20).verdict == "shown"


def test_two_unlucky_seeds_of_a_right_program_pass():
    """44.9 +- 2.2 of two seeds, where twenty come to the paper's 60.1 +- 1.7."""
    row = Row("none", incremental="domain", paper=60.1, sem=1.7)
    assert Judgement(row, [0.427, 0.471], paper_seeds=20).verdict == "PASS"
    assert Judgement(row, [0.35, 0.39], paper_seeds=20).verdict == "FAIL"


@pytest.mark.parametrize("n", [1, 2, 5, 10, 20])
def test_right_programs_rarely_fail_and_wrong_ones_do(n):
    """Seeds 1.36 times as spread as the paper's 20, as once seen; then 4 spreads off."""
    generator = np.random.default_rng(n)

    def failed(shift):
        papers = generator.normal(50, 7.4, (1000, 20))
        seeds = generator.normal(50 + shift, 1.36 * 7.4, (1000, n)) / 100
        judged = [
            Judgement(
                Row("none", paper=mean, sem=spread / 20**0.5), ours, paper_seeds=20
            )
            for mean, spread, ours in zip(papers.mean(1), papers.std(1, ddof=1), seeds)
        ]
        return sum(judgement.verdict == "FAIL" for judgement in judged) / 1000

    assert failed(0) < 0.065  # 5 % and the simulation's own error
    assert failed(4 * 7.4) > (0.7 if n == 1 else 0.87)


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("published", [1, 20])
def test_a_mean_without_error_is_as_uncertain_as_our_seeds_say(published, n):
    """A paper's single run is off by as much as any of ours; ours spread by 0.2 points."""
    generator = np.random.default_rng(n)

    def failed(shift):
        papers = generator.normal(94, 0.2, (1000, published)).mean(1)
        seeds = generator.normal(94 + shift, 0.2, (1000, n)) / 100
        judged = [
            Judgement(Row("owm", paper=mean), ours, paper_seeds=published)
            for mean, ours in zip(papers, seeds)
        ]
        return sum(judgement.verdict == "FAIL" for judgement in judged) / 1000

    assert failed(0) < 0.065
    assert failed(2) > (0.35 if n == 2 else 0.87)


def test_names_that_are_none_are_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="nearest: vandeven2022-split"):
        read_protocol("vandeven2022-splitt")
    with pytest.raises(ConfigError, match="has no row join; nearest: joint"):
        read_protocol("vandeven-permuted").chosen(["none", "join"])


ACCURACIES = [name for name in protocol_names() if name != "gaussian-peaks"]


@pytest.mark.parametrize("name", ACCURACIES)
def test_every_row_of_every_protocol_can_be_run(name):
    protocol = read_protocol(name)
    assert protocol.n_seeds >= 3 and re.search(r"\d{4}", protocol.source)
    keys = [(row.name, row.incremental) for row in protocol.rows]
    assert len(set(keys)) == len(keys)
    kinds = {}
    for row in protocol.rows:
        assert row.paper is not None or not row.gate
        assert row.paper is None or 10 < row.paper < 100
        assert row.sem is None or 0 < row.sem < 5
        kinds.setdefault(tuple(row.settings), []).append(row.incremental)
    for settings, incremental in kinds.items():
        words = [*protocol.settings, "scenario.train_samples=200"]
        if incremental != [None]:
            words.append(f"scenario.incremental={','.join(incremental)}")
        configs = read_request([*words, *settings], sweep=True).configs
        check(configs)
        for config in configs:
            assert not config.reset_optimizer
            if name.startswith("vandeven"):
                assert config.optimizer.name == "adam" and config.model.name == "mlp"


def test_one_kind_of_a_method_can_be_asked_for():
    protocol = read_protocol("vandeven2022-split")
    rows = protocol.chosen(["lwf/task", "er/class", "none"])
    kinds = [(row.name, row.incremental) for row in rows]
    assert kinds == [("none", k) for k in ("class", "task", "domain")] + [
        ("lwf", "task"),
        ("er", "class"),
    ]
    with pytest.raises(ConfigError, match="nearest: lwf/task"):
        protocol.chosen(["lwf/tasks"])


def test_a_row_without_a_published_number_is_shown():
    row = Row("kan", gate=False)
    judgement = Judgement(row, [0.97, 0.98])
    assert judgement.verdict == "shown" and judgement.difference is None
    cells = [judgement.cells[k] for k in ("row", "incremental", "paper %", "ours %")]
    assert cells == ["kan", "-", "", "97.50 ± 0.50"]


def test_protocols_are_data_alone():
    files = resources.files("kancl.protocols").iterdir()
    assert sum(file.name.endswith(".yaml") for file in files) == len(protocol_names())
    assert {"vandeven2022-split", "vandeven2019-split", "vandeven-permuted"} <= set(
        protocol_names()
    )
