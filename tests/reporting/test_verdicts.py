"""A planted difference is found, a null is not, and too few seeds say nothing."""

import numpy as np
import pytest

from kancl.reporting.variants import Benchmark, Variant, benchmarks
from kancl.reporting.verdicts import compare, headline
from kancl.runs import Run, find_runs


def variant(model, strategy, forgetting, learned=None, **summary):
    """A variant with these forgettings, by seed."""
    runs = []
    for seed, value in forgetting.items():
        metrics = {"forgetting": value, "average_accuracy": 0.5, "undefined": {}}
        metrics["learning_accuracy"] = 0.9 if learned is None else learned[seed]
        config = {"seed": seed, "model": {"name": model}}
        run = Run(None, config, {}, summary, "completed", recomputed=metrics)
        runs.append(run)
    return Variant(model, strategy, "", tuple(runs))


def comparisons(*strategies, **options):
    """Of ``(strategy, KAN - MLP by seed)``."""
    variants = []
    for strategy, differences in strategies:
        kan = {seed: 0.5 + value for seed, value in enumerate(differences)}
        variants.append(variant("kan", strategy, kan, n_parameters=1000))
        variants.append(
            variant("mlp", strategy, {s: 0.5 for s in kan}, n_parameters=1010)
        )
    return compare(Benchmark("Split MNIST", {}, tuple(variants)))


def verdicts(*strategies):
    return [c.verdict for c in comparisons(*strategies)]


LESS, MORE = "KAN forgets less", "KAN forgets more"
NONE = "no difference shown"


def test_the_line_says_how_much_how_sure_of_how_many_and_at_what_size():
    (comparison,) = comparisons(("naive", [-0.09, -0.10, -0.11, -0.10, -0.10]))
    assert comparison.verdict == LESS
    # s = 0.00707, t(4) = 2.776: 10 ± 2.776 * 0.707 / sqrt(5) = 10 ± 0.88
    assert comparison.evidence == (
        "forgetting 10.0 points lower (95 % interval: 9.1 to 10.9 lower), 5 paired seeds, "
        "at matched parameters (1,000 and 1,010); by Student's test alone, too few "
        "pairs for an exact one"
    )
    assert headline([comparison]) == f"{LESS}: {comparison.evidence}"


def test_several_strategies_are_summed_up_in_one_line():
    found = comparisons(
        ("naive", [-0.09, -0.10, -0.11, -0.10, -0.10]),
        ("ewc", [0.09, 0.10, 0.11, 0.10, 0.10]),
        ("si", [-0.1, 0.1, 0.0, 0.2, -0.2]),
    )
    assert headline(found) == (f"{LESS} under naive; {MORE} under ewc; {NONE} under si")
    assert headline([]) == "no KAN and MLP with the same strategy to compare"


def test_fewer_than_five_seeds_get_no_verdict_however_alike():
    assert verdicts(("naive", [0.50, 0.51, 0.52, 0.51])) == [
        "too few seeds to tell (4)"
    ]


def test_holms_correction_takes_back_what_many_strategies_find_by_chance():
    barely = [0.1, 0.2, 0.05, 0.3, 0.01]  # p = 0.066
    almost = [0.1, 0.2, 0.05, 0.4, 0.12]  # p = 0.047
    assert verdicts(("naive", almost)) == [MORE]
    assert verdicts(("naive", almost), ("ewc", barely)) == [NONE, NONE]
    first, _ = comparisons(("naive", almost), ("ewc", barely))
    assert first.evidence.endswith("the tests do not (Holm, 2 comparisons)")


def test_what_has_too_few_seeds_for_a_verdict_weakens_no_other():
    almost = [0.1, 0.2, 0.05, 0.4, 0.12]  # p = 0.047
    judged, trial = comparisons(("naive", almost), ("ewc", [0.1, 0.2]))
    assert [judged.verdict, trial.verdict] == [MORE, "too few seeds to tell (2)"]
    assert judged.n_tests["forgetting"] == 1 and not trial.corrected


def test_the_exact_test_can_take_back_what_students_test_finds():
    # of 8 alike, one has the other sign: so do at most one of 8 in 18 of 256 cases
    either_or = [0.100, 0.101, 0.099, 0.1, 0.102, 0.098, 0.1, -0.1]
    (comparison,) = comparisons(("naive", either_or))
    difference = comparison.differences["forgetting"]
    assert difference.p_t < 0.05 <= difference.p_permutation
    assert comparison.verdict == NONE


def test_differences_without_spread_are_judged_by_the_exact_test():
    assert verdicts(("naive", [0.1] * 6)) == [MORE]  # p = 2 / 64
    assert verdicts(("naive", [0.1] * 5)) == [NONE]  # p = 2 / 32
    assert verdicts(("naive", [0.0] * 8)) == [NONE]


def test_learning_less_is_said_beside_forgetting_less():
    kan = variant("kan", "naive", {s: 0.1 + 0.01 * s for s in range(5)})
    learned = {s: 0.7 + 0.01 * (s % 2) for s in range(5)}
    lazy = variant("kan", "naive", {s: 0.1 + 0.01 * s for s in range(5)}, learned)
    mlp = variant("mlp", "naive", {s: 0.8 - 0.01 * s for s in range(5)})
    (comparison,) = compare(Benchmark("B", {}, (lazy, mlp)))
    assert comparison.verdict == f"{LESS}, but learns less"
    # 0.7 or 0.71 against 0.9: -19.6, s = 0.548, ± 2.776 * 0.548 / sqrt(5) = 0.68
    assert comparison.caveat == (
        "it learns less: learning accuracy 19.6 points lower (95 % interval: 18.9 to "
        "20.3 lower)"
    )
    (comparison,) = compare(Benchmark("B", {}, (kan, mlp)))
    assert comparison.verdict == LESS
    assert (
        comparison.caveat
        == "learning accuracy 0.0 points apart (95 % interval: 0.0 to 0.0)"
    )


@pytest.mark.parametrize(
    ("match", "n_kan", "says"),
    [
        ("params", 1020, "at matched parameters (1,020 and 1,000)"),
        ("width", 10_000, "at matched width, 10 times the parameters"),
        ("flops", 1500, "at matched FLOPs, 1.5 times the parameters"),
        ("none", 500, "at UNEQUAL size: 0.5 times the parameters (500 and 1,000)"),
        ("params", None, "sizes not recorded"),
    ],
)
def test_sizes_are_told_as_they_are(match, n_kan, says):
    variants = []
    for model, n in [("kan", n_kan), ("mlp", 1000)]:
        made = variant(model, "naive", {0: 0.5, 1: 0.5})
        for run in made.runs:
            run.config["match"] = match
            run.summary["n_parameters"] = n
        variants.append(made)
    (comparison,) = compare(Benchmark("B", {}, tuple(variants)))
    assert says in comparison.evidence


def test_seeds_are_paired_and_those_left_over_are_named():
    kan = variant("kan", "naive", {0: 0.4, 1: 0.5, 2: 0.6})
    mlp = variant("mlp", "naive", {1: 0.3, 2: 0.3, 7: 0.9})
    (comparison,) = compare(Benchmark("B", {}, (kan, mlp)))
    assert comparison.differences["forgetting"].values == pytest.approx((0.2, 0.3))
    assert comparison.unpaired_seeds == {"kan-naive": [0], "mlp-naive": [7]}
    other = variant("mlp", "naive", {8: 0.3})
    (comparison,) = compare(Benchmark("B", {}, (kan, other)))
    assert comparison.verdict == "not comparable"
    assert comparison.evidence == "no seed was run with both"


def test_what_has_no_forgetting_says_why(plant, tmp_path):
    plant("model=kan,mlp", outcome=lambda config: "diverged")
    (benchmark,) = benchmarks(find_runs([tmp_path]))
    (comparison,) = compare(benchmark)
    assert comparison.evidence == "no run of kan-naive completed"


def test_a_kan_meets_the_mlp_whose_training_is_most_alike(plant, tmp_path):
    def outcome(config):
        return (0.9, 0.5)

    plant("model=kan,mlp", "optimizer.lr=0.001,0.01", outcome=outcome)
    plant("model=mlp", "strategy=ewc", outcome=outcome)
    (benchmark,) = benchmarks(find_runs([tmp_path]))
    rates = [
        (c.compared.settings["optimizer.lr"], c.reference.settings["optimizer.lr"])
        for c in compare(benchmark)
    ]
    assert rates == [(0.001, 0.001), (0.01, 0.01)]


def test_a_kan_meets_every_network_that_is_its_control(plant, tmp_path):
    """Also where each has a rate of its own, and one happens to have the KAN's."""
    plant("model=kan", "optimizer.lr=0.01", outcome=lambda config: (0.9, 0.5))
    for width, rate in ((8, 0.01), (16, 0.02), (16, 0.3)):
        said = ["model=mlp", f"model.hidden=[{width}]", f"optimizer.lr={rate}"]
        plant(*said, outcome=lambda config: (0.9, 0.5))
    (benchmark,) = benchmarks(find_runs([tmp_path]))
    met = [c.reference.settings["model.hidden"] for c in compare(benchmark)]
    assert sorted(met) == [[8], [16], [16]]


def _share_of_verdicts(n_pairs, n_strategies, draw, n_simulations=150):
    """How often at least one strategy gets a verdict."""
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(n_simulations):
        strategies = [(str(k), draw(rng, n_pairs)) for k in range(n_strategies)]
        found += any(v in (LESS, MORE) for v in verdicts(*strategies))
    return found / n_simulations


def _normal(rng, n):
    return rng.normal(0, 0.03, n).tolist()


def _either_or(rng, n):
    return (rng.choice([-0.1, 0.1], n) + rng.normal(0, 0.001, n)).tolist()


@pytest.mark.parametrize("n_pairs, null", [(5, _normal), (8, _normal), (8, _either_or)])
def test_where_models_do_not_differ_a_report_of_four_strategies_finds_nothing(
    n_pairs, null
):
    # 5 % of reports, and three standard errors of 150 simulations
    assert _share_of_verdicts(n_pairs, 4, null) <= 0.05 + 3 * (0.0475 / 150) ** 0.5


def test_five_pairs_that_are_either_or_can_fool_the_verdict_and_it_says_so():
    # all signs alike in 2 of 32 cases, which no test of five pairs can tell from chance
    share = _share_of_verdicts(5, 1, _either_or)
    assert share == pytest.approx(2 / 32, abs=3 * (0.0586 / 150) ** 0.5)
    (comparison,) = comparisons(("naive", [0.1, 0.1001, 0.1, 0.1, 0.1]))
    assert "by Student's test alone" in comparison.evidence
    (comparison,) = comparisons(("naive", [0.1, 0.1001, 0.1, 0.1, 0.1, 0.1]))
    assert comparison.verdict == MORE and "alone" not in comparison.evidence


def test_a_planted_difference_is_found_among_four_strategies():
    def less(rng, n):
        return rng.normal(-0.08, 0.03, n).tolist()

    for n_pairs in [5, 8]:
        rng = np.random.default_rng(1)
        found = [
            verdicts(
                *[(str(k), less(rng, n_pairs)) for k in range(4)],
            )
            for _ in range(30)
        ]
        assert np.mean([[v == LESS for v in row] for row in found]) > 0.8
