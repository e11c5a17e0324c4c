"""Names, options and documentation of the strategies, and the pairs refused."""

import inspect
from typing import get_type_hints

import pytest
import torch
from torch import nn

from kancl.benchmarks import split_mnist
from kancl.models import MLP, MODELS, KANLinear
from kancl.models.heads import with_head
from kancl.strategies import STRATEGIES, TrainingSetup, check_pair, trains_jointly
from kancl.strategies.pairs import REFUSED, REFUSED_MODELS


def options(name):
    return dict(list(inspect.signature(STRATEGIES[name]).parameters.items())[1:])


def setup(model=None):
    model = model or nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return TrainingSetup(model, optimizer, batch_size=8, iterations=2)


@pytest.mark.parametrize("name", STRATEGIES)
def test_builders_are_typed_and_documented(name):
    builder = STRATEGIES[name]
    hints = get_type_hints(builder)
    for option, parameter in options(name).items():
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.default is not inspect.Parameter.empty
        assert option in hints
    purpose, *rest = inspect.getdoc(builder).split("\n")
    assert purpose.endswith(".") and len(purpose) <= 88
    assert any(line.startswith("Source:") for line in rest)
    documented = "\n".join(rest)
    if "options as in" not in purpose:
        assert all(f"{option}: " in documented for option in options(name))


@pytest.mark.parametrize("name", ["ewc_replay", "si_replay", "lwf_replay", "lwf_ewc"])
def test_a_combination_has_the_options_of_its_parts(name):
    first, second = name.split("_")
    expected = {**options(first), **options(second)}
    assert options(name) == expected


def test_a_combination_has_the_plugins_of_its_parts():
    def plugins(name):
        return {type(plugin) for plugin in STRATEGIES[name](setup()).plugins}

    for name in ("ewc_replay", "si_replay", "lwf_replay", "lwf_ewc"):
        first, second = name.split("_")
        assert plugins(name) == plugins(first) | plugins(second)


@pytest.mark.parametrize(
    "name, wrong",
    [
        ("ewc", {"ewc_lambda": -1.0}),
        ("ewc", {"fisher_samples": 0}),
        ("ewc_batched", {"ewc_lambda": -1.0}),
        ("online_ewc", {"gamma": 1.1}),
        ("si", {"si_c": -0.5}),
        ("si", {"damping": 0.0}),
        ("lwf", {"alpha": -1.0}),
        ("lwf", {"temperature": 0.0}),
        ("mas", {"mas_lambda": -1.0}),
        ("l2_anchor", {"l2_lambda": float("inf")}),
        ("replay", {"mem_size": 0}),
        ("replay", {"mem_per_class": 0}),
        ("replay", {"replay_batch_size": 0}),
        ("agem", {"mem_size": -5}),
        ("gem", {"patterns_per_experience": 0}),
        ("gem", {"memory_strength": -0.1}),
        ("er_ace", {"mem_size": 0}),
        ("er_ace", {"replay_batch_size": 0}),
        ("der", {"mem_size": 0}),
        ("der", {"alpha": -0.1}),
        ("der", {"beta": -0.1}),
        ("gdumb", {"mem_size": 0}),
        ("mir", {"candidates": 0}),
        ("occupancy", {"beta": -1.0}),
        ("occupancy", {"feature_samples": 0}),
        ("gram", {"beta_input": -1.0}),
        ("gram", {"beta_hidden": -0.1}),
        ("gram", {"structure": "round"}),
        ("gram_ewc", {"ewc_lambda": -0.3}),
        ("labels_trick_gram", {"rank": 0}),
    ],
)
def test_refuses_options_out_of_range_by_name_and_value(name, wrong):
    [(option, value)] = wrong.items()
    with pytest.raises(ValueError, match=f"{option} must .*got '?{value}"):
        STRATEGIES[name](setup(), **wrong)


def test_a_full_gram_matrix_that_is_too_large_is_refused_with_the_way_out():
    wide = setup(nn.Linear(10_001, 2))
    with pytest.raises(ValueError, match="10002 features.*structure=blocks.* instead"):
        STRATEGIES["gram"](wide)
    STRATEGIES["gram"](wide, structure="low_rank")


@pytest.mark.parametrize("name", ["occupancy", "gram", "gram_ewc", "labels_trick_gram"])
def test_a_factor_per_edge_is_refused_before_training(name):
    with pytest.raises(ValueError, match="model.standalone_scale=false instead"):
        STRATEGIES[name](setup(KANLinear(4, 4)))


@pytest.mark.parametrize("strategy, model", REFUSED_MODELS)
def test_a_refused_model_really_cannot(strategy, model):
    with pytest.raises(ValueError, match=f"{strategy}.*model={model}.* instead"):
        check_pair(strategy, model=model, head="single", incremental="class")
    network = with_head(MODELS[model](784, 10), "single", 10)
    with pytest.raises(ValueError, match="instead"):
        STRATEGIES[strategy](setup(network))


def test_only_joint_trains_jointly():
    assert [name for name in STRATEGIES if trains_jointly(name)] == ["joint"]


def test_unknown_strategies_are_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="strategy=replya is unknown.*mean replay"):
        check_pair("replya", model="kan", head="single", incremental="class")


@pytest.mark.parametrize("strategy, head", REFUSED)
def test_a_refused_pair_really_fails(strategy, head):
    """Fails once Avalanche can do it: then take the pair off the list."""
    incremental = "task" if head == "multi" else "class"
    with pytest.raises(ValueError, match=f"{strategy}.*head={head}.* instead"):
        check_pair(strategy, model="kan", head=head, incremental=incremental)
    benchmark = split_mnist(incremental=incremental, train_samples=16)
    network = MLP([784, 4, benchmark.info.n_outputs])
    model = with_head(network, head, benchmark.info.n_outputs)
    built = STRATEGIES[strategy](setup(model), mem_size=8)
    with pytest.raises((TypeError, RuntimeError, UserWarning, AssertionError)):
        for experience in list(benchmark.train_stream)[:2]:
            built.train(experience)
            output = next(iter(built.storage_policy.buffer))[3]
            assert output.min() > -500, "an output that no head gave is kept"
