"""Crossed seeds: one kind of draw varies, the others stay as they are to the bit."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from avalanche.training.determinism.rng_manager import RNGManager

from kancl.config import Seeds
from kancl.runner.build import build
from kancl.runner.request.compose import read_request
from kancl.runner.seeding import set_stream, stream_seed, stream_seeds

SMALL = ("scenario.train_samples=40", "scenario.test_samples=10", "device=cpu")
SMALL += ("model.hidden=[3]", "scenario.class_order=random")


def config(*overrides):
    (made,) = read_request([*SMALL, *overrides], sweep=False).configs
    return made


def test_every_kind_has_the_seed_of_the_run_unless_another_is_said():
    assert stream_seeds(config("seed=3")) == Seeds(
        init=3, order=3, batches=3, buffers=3
    )
    crossed = stream_seeds(config("seed=3", "seeds.order=0", "seeds.buffers=7"))
    assert crossed == Seeds(init=3, order=0, batches=3, buffers=7)


def test_a_stream_seeds_what_avalanche_seeds():
    def drawn():
        return random.random(), np.random.rand(), torch.rand(1).item()

    set_stream(1, "batches", 2)
    found = drawn()
    RNGManager.set_random_seeds(stream_seed(1, "batches", 2))
    assert found == drawn()


def _weights_and_classes(*overrides):
    parts = build(config(*overrides))
    weights = torch.cat([p.flatten() for p in parts.model.parameters()])
    return weights, parts.benchmark.info.experience_classes


def test_initialisation_and_order_are_crossed_freely():
    weights, classes = _weights_and_classes("seed=1")
    same_order, other_init = "seeds.order=1", "seeds.init=1"
    w, c = _weights_and_classes("seed=2", same_order)
    assert c == classes and not torch.equal(w, weights)
    w, c = _weights_and_classes("seed=2", other_init)
    assert c != classes and torch.equal(w, weights)


@pytest.mark.parametrize(
    ("kind", "strategy"), [("batches", "naive"), ("buffers", "replay")]
)
def test_batches_and_buffers_are_streams_of_their_own(make_run, kind, strategy):
    words = [f"strategy={strategy}", "model=mlp", "seed=1", "scenario.n_experiences=2"]
    words += ["strategy.mem_size=8"] if strategy == "replay" else []
    runs = [make_run(*words, f"seeds.{kind}={n}") for n in (1, 2)]
    series = [(folder / "metrics.csv").read_text() for _, folder in runs]
    assert series[0] != series[1]
    seeds = [summary["seeds"] for summary, _ in runs]  # recorded as they were used
    assert seeds[0] == {"init": 1, "order": 1, "batches": 1, "buffers": 1}
    assert seeds[1] == seeds[0] | {kind: 2}


def test_a_seed_said_twice_changes_nothing(make_run):
    _, one = make_run("model=mlp", "seed=1", "scenario.n_experiences=2")
    said = [f"seeds.{kind}=1" for kind in ("init", "order", "batches", "buffers")]
    _, two = make_run("model=mlp", "seed=1", "scenario.n_experiences=2", *said)
    assert one != two
    assert (one / "metrics.csv").read_text() == (two / "metrics.csv").read_text()
