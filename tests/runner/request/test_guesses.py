"""What a newcomer types first is answered with the line to type."""

import shlex

import pytest
from rich.console import Console

from kancl.config import ConfigError
from kancl.runner.request.compose import read_request
from kancl.runner.request.listing import show_list

GUESSES = {
    "lr=0.1": "nearest: optimizer.lr=0.1",
    "epochs=3": "nearest: training.epochs=3",
    "hidden=[64,64]": "nearest: 'model.hidden=[64,64]'",
    "strategy=EWC": "nearest: ewc",
    "strategy=A-GEM": "nearest: agem",
    "strategy=DER++": "there is no strategy=DER++; nearest: der",
    "'strategy=online EWC'": "nearest: online_ewc",
    "strategy=fine-tuning": "nearest: naive",
    "strategy=ewc+": "there is no strategy=ewc+; nearest: ewc",
    "strategy=[ewc,si]": "a run of each: -m strategy=ewc,si",
    "strategy=naive+naive": "use strategy=naive instead",
    "scenario=SplitMNIST": "nearest: split_mnist",
    "ewc_lambda=10": "nearest: strategy=ewc strategy.ewc_lambda=10",
    "'seed = 1'": "there is a space beside =; nearest: seed=1",
    "seed=0,1,": "no value follows its last comma",
    "model.hidden=[64,]": "no value follows its last comma",
    "model.hidden=[64": "a bracket has no other",
    "sе\u0435d=1": "no key has the letter 'е'",
    "name=ü": "name takes letters, digits",
    "=3": "it is not key=value",
    "log_dir=a\\;b": "letters that stand in quotes",
    "optimizer.lr='interval(1)'": "missing a required argument: 'end'",
    "seed='range(20000)'": "more than 10,000 runs",
    "seed='range(200)' training.epochs='range(1,60)'": "more than 10,000 runs",
    "training.epochs=2 training.iterations=3": "set one of them only",
    "scenario.n_experiences=0": "scenario.n_experiences must be at least 1, not 0",
    "seed=[0,1]": "nearest: seed=0,1",
    "help": "help has no value; kancl list shows",
    "a=b=c": "it is not key=value",
    "seed=0..4": "nearest: 'seed=range(0,5)'",
    "seeds=5": "several runs: 'seed=range(5)'",
    "optimizer.lr= 0.01": "space after =; nearest: optimizer.lr=0.01",
    "kan": "nearest: model=kan",
    "training.epochs": "kancl list training.epochs",
    "optimizer.lr=-1": "optimizer.lr must be above 0, not -1.0",
    "optimizer.lr=0": "optimizer.lr must be above 0",
    "model.hidden=[0]": "model.hidden takes list of int >= 1, not [0]",
    "model.grid_size=0": "model.grid_size must be at least 1",
    "model.degree=6": "model.degree must be at most 5",
    "model=mlp model.dropout=2": "model.dropout must be at most 1",
    "optimizer=sgd optimizer.momentum=-1": "optimizer.momentum must be at least 0",
}


@pytest.mark.parametrize("typed", GUESSES)
def test_a_guess_is_answered_with_the_line_to_type(typed):
    with pytest.raises(ConfigError) as refusal:
        read_request(shlex.split(typed), sweep=True)
    assert GUESSES[typed] in str(refusal.value)


def test_the_line_that_is_named_works():
    *_, last = read_request(shlex.split("seed='range(0,5)'"), sweep=True).configs
    assert last.seed == 4


@pytest.mark.parametrize(
    "word, said",
    [
        ("lr", "optimizer.lr=0.001 step size (float > 0)"),
        ("optimizer.lr", "optimizer.lr=0.001 step size (float > 0)"),
        ("hidden", "model.hidden=[64] sizes of the hidden layers"),
        ("epochs", "training.epochs=1 passes over an experience's training data"),
    ],
)
def test_a_key_explains_itself_by_its_short_name_too(word, said):
    console = Console(width=200, record=True, quiet=False)
    show_list([word], console)
    assert said in " ".join(console.export_text().split())
