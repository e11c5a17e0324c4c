"""Networks of matched size, with the heads that a scenario wants."""

from __future__ import annotations

import pytest
import torch
from avalanche.models.utils import avalanche_model_adaptation

from kancl.models.cost import n_parameters
from kancl.runner.build import Parts, build
from kancl.runner.request.compose import read_request
from kancl.runner.seeding import stream_seed
from kancl.splines import cpu

SAMPLES = ("scenario.train_samples=40", "scenario.test_samples=10", "device=cpu")


def parts(*overrides: str) -> Parts:
    (config,) = read_request([*SAMPLES, *overrides], sweep=False).configs
    return build(config)


@pytest.mark.parametrize("incremental", ["class", "domain", "task"])
def test_a_matched_mlp_has_as_many_parameters_in_the_end(incremental: str) -> None:
    made = parts("model=mlp", "match=params", f"scenario.incremental={incremental}")
    assert made.reference is not None and made.reference.hidden == (64,)
    assert made.size.n_parameters == pytest.approx(
        made.reference.n_parameters, rel=0.005
    )
    for experience in made.benchmark.train_stream:
        avalanche_model_adaptation(made.model, experience)
    assert n_parameters(made.model) == made.size.n_parameters
    assert len(made.size.hidden) == 2  # its own depth


def test_all_heads_of_a_growing_model_are_counted() -> None:
    growing = parts("model=mlp", "match=params", "scenario.head=growing")
    single = parts("model=mlp", "match=params", "scenario.head=single")
    assert growing.size == single.size


def test_the_heads_of_all_tasks_are_counted_the_flops_of_one() -> None:
    task = parts("model=mlp", "scenario.incremental=task").size
    domain = parts("model=mlp", "scenario.incremental=domain").size
    assert task.n_parameters == domain.n_parameters + 4 * (400 * 2 + 2)
    assert task.flops == domain.flops


def test_flops_and_width_match_as_well() -> None:
    made = parts("model=mlp", "match=flops", "model.hidden=[1]", "match_to.hidden=[20]")
    assert made.reference is not None and made.reference.hidden == (20,)
    assert made.size.flops == pytest.approx(made.reference.flops, rel=0.01)
    made = parts("model=mlp", "match=width", "match_to.hidden=[30,20]")
    assert made.size.hidden == (30, 20)


def test_kernels_are_compiled_before_any_time_is_taken() -> None:
    cpu._kernels.cache_clear()
    parts("model=mlp")
    assert cpu._kernels.cache_info().currsize == 0
    parts("model=kan")
    assert cpu._kernels.cache_info().currsize > 0


def test_a_kan_can_match_an_mlp() -> None:
    made = parts("match=params", "match_to=mlp", "match_to.hidden=[50]")
    assert made.reference is not None and made.reference.name == "mlp"
    width = 784 + 10
    per_unit = made.size.n_parameters / made.size.hidden[0]
    assert abs(made.size.n_parameters - (50 * width + 60)) <= per_unit / 2 + 1


def test_the_reference_itself_keeps_its_widths() -> None:
    made = parts("match=params", "model.hidden=[9]")
    assert made.reference is None and made.size.hidden == (9,)


@pytest.mark.parametrize(
    ("normalize", "low", "high"), [("none", 0, 1), ("unit", -1, 1), ("standard", -1, 3)]
)
def test_the_first_grid_covers_the_scaled_inputs(
    normalize: str, low: float, high: float
) -> None:
    made = parts("model.hidden=[3]", f"scenario.normalize={normalize}")
    x = made.benchmark.train_stream[0].dataset[0][0]
    assert x.min() >= low and x.max() <= high and x.max() > 0.9
    share = made.model.network.off_grid_share(x.flatten()[None])[0]
    assert share == 0.0


def test_streams_differ_by_name_and_seed() -> None:
    seeds = {stream_seed(s, name, k) for s in (0, 1) for name in "ab" for k in (0, 1)}
    assert len(seeds) == 8 and all(0 <= s < 2**32 for s in seeds)
    assert stream_seed(1, "a") == stream_seed(1, "a")


@pytest.mark.parametrize("model", ["kan", "kan_local"])
def test_input_grids_follow_the_first_experience_alone(model: str) -> None:
    words = [f"model={model}", "model.hidden=[3]", "scenario=permuted_mnist"]
    words += ["scenario.n_experiences=2", "scenario.train_samples=200"]
    uniform, ranges = (
        parts(*words, f"model.input_grid={kind}") for kind in ("uniform", "range")
    )
    first, second = (
        torch.stack([x.flatten() for x, *_ in e.dataset])
        for e in ranges.benchmark.train_stream
    )
    layer = ranges.model.network.layers[0]
    degree = layer.spline_order
    high = layer.grid[:, -1 - degree]
    varies = first.amax(0) > first.amin(0)
    assert torch.allclose(high[varies], first.amax(0)[varies])
    assert bool((high[~varies] == 1).all()) and bool(
        (second.amax(0) > high + 0.1).any()
    )
    assert ranges.size == uniform.size
    for a, b in zip(uniform.model.parameters(), ranges.model.parameters()):
        assert torch.equal(a, b)
    warped = parts(*words, "model.input_grid=quantile", "model.input_grid_size=4")
    again = parts(*words, "model.input_grid=quantile", "model.input_grid_size=4")
    table = warped.model.network.layers[0].warp
    assert torch.equal(table, again.model.network.layers[0].warp)
    even = torch.linspace(0, 4, table.shape[1])
    assert torch.allclose(table[~varies], even, atol=1e-5)
    assert not torch.allclose(table[varies], even, atol=0.1)
