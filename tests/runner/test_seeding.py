"""Crossed seeds: one kind of draw varies, the others stay as they are to the bit."""

from __future__ import annotations

import pytest
import torch

from kancl.runner import build, read_request
from kancl.runner.seeding import StreamSeeds, stream_seeds

SMALL = ("scenario.train_samples=40", "scenario.test_samples=10", "device=cpu")
SMALL += ("model.hidden=[3]", "scenario.class_order=random")


def config(*overrides):
    (made,) = read_request([*SMALL, *overrides], sweep=False).configs
    return made


def test_every_kind_has_the_seed_of_the_run_unless_another_is_said():
    assert stream_seeds(config("seed=3")) == StreamSeeds(3, 3, 3, 3)
    crossed = stream_seeds(config("seed=3", "seeds.order=0", "seeds.buffers=7"))
    assert crossed == StreamSeeds(init=3, order=0, batches=3, buffers=7)


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
    words = [f"strategy={strategy}", "seed=1", "training.epochs=1"]
    words += ["strategy.mem_size=8"] if strategy == "replay" else []
    summary, folder = make_run(*words)
    (same, where), (_, other) = (make_run(*words, f"seeds.{kind}={n}") for n in (1, 2))
    assert folder != where != other  # another line was typed, another folder made
    series = [(path / "metrics.csv").read_text() for path in (folder, where, other)]
    assert series[0] == series[1] != series[2]
    assert summary["seeds"] == same["seeds"]  # recorded as they were used


def test_a_run_of_one_seed_draws_batches_alike_whatever_its_initialisation(make_run):
    _, one = make_run("model=mlp", "seed=1", "seeds.init=1")
    summary, two = make_run("model=mlp", "seed=1", "seeds.init=2")
    assert summary["seeds"] == {"init": 2, "order": 1, "batches": 1, "buffers": 1}
    assert (one / "metrics.csv").read_text() != (two / "metrics.csv").read_text()
