"""Training steps on a device: stacked, recorded and compiled ones train alike."""

import pytest
import torch

from kancl.bench.device_steps import (
    N_SEEDS,
    WARM_UP,
    Graph,
    implementations,
    layer_sizes,
    on_streams,
    samples,
    seeded_kan,
    stacked_step,
)
from kancl.bench.layers import training_step
from tests.device.test_layers import relative_error

SIZES = layer_sizes(small=False)


def test_seeds_stacked_by_vmap_train_as_lone_ones(device: str, small: bool) -> None:
    n_steps, sizes = 3 if small else 50, layer_sizes(small)
    x, y = samples(device, sizes, N_SEEDS)
    lone, together = (
        [seeded_kan(device, sizes, "dense", seed) for seed in range(N_SEEDS)]
        for _ in range(2)
    )
    all_at_once, parameters = stacked_step(together, x, y)
    steps = [all_at_once, *(training_step(*one) for one in zip(lone, x, y))]
    for _ in range(n_steps):
        for step in steps:
            step()
    for seed, model in enumerate(lone):
        for name, parameter in model.named_parameters():
            assert relative_error(parameters[name][seed], parameter) <= 1e-3


@pytest.mark.parametrize("name", ["dense", "triton"])
def test_a_recorded_step_trains_as_an_eager_one(name: str, gpu: str) -> None:
    if name not in implementations(gpu):
        pytest.skip(f"{name} does not run here")
    x, y = samples(gpu, SIZES)
    models = [seeded_kan(gpu, SIZES, name) for _ in range(2)]
    graph = Graph(models[0], x, y)
    eager = training_step(models[1], x, y, capturable=True)
    for _ in range(10):
        graph()
    for _ in range(10 + WARM_UP):
        eager()
    for ours, theirs in zip(*(model.parameters() for model in models)):
        assert relative_error(ours, theirs) <= 1e-4


def test_a_compiled_step_trains_as_an_eager_one(gpu: str) -> None:
    x, y = samples(gpu, SIZES)
    plain, compiled = (seeded_kan(gpu, SIZES, "dense") for _ in range(2))
    for step in (
        training_step(plain, x, y),
        training_step(torch.compile(compiled), x, y),
    ):
        for _ in range(5):
            step()
    for ours, theirs in zip(compiled.parameters(), plain.parameters()):
        assert relative_error(ours, theirs) <= 1e-3


@pytest.mark.parametrize("name", ["dense", "triton"])
def test_seeds_on_streams_of_their_own_have_the_bits_of_lone_ones(
    name: str, gpu: str
) -> None:
    if name not in implementations(gpu):
        pytest.skip(f"{name} does not run here")
    x, y = samples(gpu, SIZES, N_SEEDS)
    lone, together = (
        [seeded_kan(gpu, SIZES, name, seed) for seed in range(N_SEEDS)]
        for _ in range(2)
    )
    one_by_one = [Graph(*one) for one in zip(lone, x, y)]
    at_once = on_streams([Graph(*one) for one in zip(together, x, y)])
    for _ in range(50):
        for step in one_by_one:
            step()
    torch.cuda.synchronize()
    for _ in range(50):
        at_once()
    torch.cuda.synchronize()
    for one, other in zip(lone, together):
        assert all(map(torch.equal, one.parameters(), other.parameters()))
