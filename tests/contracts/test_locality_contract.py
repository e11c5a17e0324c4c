"""The locality contract: which clauses each model keeps, each shown on real images.

===  ======================================================================
L1   an input value touches at most degree + 1 coefficients of an edge, and
     those that the anchor touches where there is one
L2   nothing but splines is trained; else it is listed
L3   a coefficient that no sample touched since the last step is
     bit-identical after it
L4   grids stay, or change by exact knot insertion
L5   outside the grid there is a stated policy, and it is counted
L6   occupancy is counted per coefficient and experience
L7   a constant background has no share of the splines and no gradient
===  ======================================================================

``KEPT`` says by whom, and the tables in docs/locality.md have to say the same. L3 holds for the
optimizer's steps and whatever adds to the loss. Gram strategies move weights after the
step, on purpose; what they promise instead is that outputs on past images drift less,
``DRIFT``, which is shown here too. Of an MLP, whose every weight has one "basis", its
input, clauses about grids say nothing.
"""

import copy
import re
from pathlib import Path

import pytest
import torch
from avalanche.core import SupervisedPlugin

from kancl.benchmarks import split_mnist
from kancl.metrics.locality import Occupancy, leak, output_drift
from kancl.models.grid_changes import grow, refine
from kancl.models.heads import with_head
from kancl.models.inspect import (
    layer_bases,
    layer_inputs,
    layer_weights,
    named_layers,
)
from kancl.plugins.steps.frozen import LazyStepsPlugin
from kancl.runner.registry import GROUPS, OPTIMIZERS
from kancl.strategies import TrainingSetup, build

CLAUSES = {"L1", "L2", "L3", "L4", "L5", "L6", "L7"}
KEPT = {
    "kan": {"L1", "L4", "L5", "L6"},
    "kan_local": CLAUSES,
    "mlp": {"L6", "L7"},
}
"""With ``naive`` and ``occupancy``; with ``gram`` L3 is not."""
WITHOUT_GRID = {"mlp": {"L1", "L4", "L5"}}
DRIFT = {"naive": None, "occupancy": 0.9, "gram": 0.5}
"""Of old outputs, with strong betas: less than so much of that of naive training."""
STEPS = {
    "plain_sgd": {"lr": 0.05},
    "sgd": {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01},
    "adam": {"lr": 0.01, "weight_decay": 0.01},
    "adamw": {"lr": 0.01, "weight_decay": 0.1},
}
STRONG = {"beta_input": 100.0, "beta_hidden": 100.0}
OPTIONS = {
    "naive": {},
    "occupancy": {"beta": 100.0},
    **{name: STRONG for name in ("gram", "gram_ewc", "labels_trick_gram")},
}
EXCEPTIONS = [name for name in OPTIONS if "gram" in name]
N_BATCHES, BATCH = 2, 8
DOCS = Path(__file__).parents[2] / "docs" / "locality.md"


def keeps_it(model, strategy, clause):
    return clause in KEPT[model] and not (clause == "L3" and strategy in EXCEPTIONS)


def keeping(clause):
    """Every model that the clause says something of, and whether it keeps it."""
    cases = [
        (model, clause in kept)
        for model, kept in KEPT.items()
        if clause not in WITHOUT_GRID.get(model, ())
    ]
    return pytest.mark.parametrize("model, keeps", cases)


@pytest.fixture(scope="module")
def benchmark():
    return split_mnist(
        n_experiences=2, train_samples=N_BATCHES * BATCH, incremental="domain"
    )


@pytest.fixture(scope="module")
def images(benchmark):
    """Of each experience."""
    return [
        torch.stack([x.flatten() for x, *_ in e.dataset])
        for e in benchmark.train_stream
    ]


def network(model, **options):
    torch.manual_seed(0)
    return GROUPS["model"].build(model, 784, 5, hidden=(4,), **options)


def trained(model, benchmark, images, optimizer="sgd", strategy="naive", **options):
    """Train both experiences.

    Returns: the largest leak of a step; how far outputs on images of the first
        experience moved in the second.
    """
    net = with_head(network(model), "single", 5)
    spy, lazy = Spy(), getattr(net.network, "lazy", False)
    setup = TrainingSetup(
        net,
        OPTIMIZERS[optimizer.removeprefix("plain_")](
            net.parameters(), **STEPS[optimizer]
        ),
        batch_size=BATCH,
        plugins=[LazyStepsPlugin()] if lazy else [],
    )
    options = {**OPTIONS.get(strategy, {}), **options}
    if model == "kan" and "gram" in strategy:
        options["structure"] = "blocks"  # 7,056 features: a matrix of 200 MB
    made = build(strategy, setup, **options)
    made.plugins.append(spy)
    outputs = []
    for experience in benchmark.train_stream:
        made.train(experience)
        outputs.append(net(images[0]).detach())
    assert len(spy.leaks) == 2 * N_BATCHES
    return max(spy.leaks), float(output_drift(*outputs).max())


class Spy(SupervisedPlugin):
    """Compare every coefficient before and after each step, last of all plugins."""

    def __init__(self):
        super().__init__()
        self.leaks = []

    def before_update(self, strategy, **kwargs):
        with torch.no_grad():
            inputs, _ = layer_inputs(
                strategy.model, lambda: strategy.model(strategy.mb_x)
            )
        layers = named_layers(strategy.model)
        self.visited = {
            name: Occupancy.of(layer_bases(layers[name][0], x)).visited(0)
            for name, x in inputs.items()
        }
        self.before = {name: layer_weights(layers[name][0]) for name in inputs}

    def after_update(self, strategy, **kwargs):
        layers = named_layers(strategy.model)
        assert layers.keys() == self.visited.keys() and len(layers) == 2
        self.leaks.append(
            max(
                leak(self.visited[name], self.before[name], layer_weights(layer))
                for name, (layer,) in layers.items()
            )
        )


@keeping("L1")
def test_L1_compact_support(model, keeps):
    for options in ({}, {"grid_size": 12, "input_grid_size": 12}):
        for layer in network(model, **options).layers:
            x = 2 * torch.rand(500, layer.in_features) - 1
            touched = layer.b_splines(x) != 0
            plain = copy.deepcopy(layer)
            plain.anchor = None
            own = plain.b_splines(x) != 0
            assert (own.sum(-1).max() <= layer.spline_order + 1) == keeps
            if layer.anchor is not None:
                own |= plain.b_splines(layer.anchor.unsqueeze(0)) != 0
            assert not (touched & ~own).any()
            if options:
                assert touched.sum(-1).max() < layer.coefficients.shape[1]


@keeping("L2")
def test_L2_no_other_path(model, keeps):
    trained = {name.split(".")[-1] for name, _ in network(model).named_parameters()}
    listed = {"kan": {"coefficients", "base_weight"}, "mlp": {"weight", "bias"}}
    assert trained == listed.get(model, {"coefficients"})
    assert keeps == (trained == {"coefficients"})


@pytest.mark.parametrize("optimizer", STEPS)
@keeping("L3")
def test_L3_untouched_is_untouched(model, keeps, optimizer, benchmark, images):
    found, _ = trained(model, benchmark, images, optimizer)
    by_itself = optimizer == "plain_sgd"
    assert found == 0 if keeps or by_itself else found > 1e-4


@pytest.mark.parametrize("optimizer", STEPS)
@pytest.mark.parametrize("strategy", ["occupancy", "ewc", "si"])
def test_L3_holds_where_steps_are_scaled_or_the_loss_is_added_to(
    strategy, optimizer, benchmark, images
):
    assert trained("kan_local", benchmark, images, optimizer, strategy)[0] == 0


@pytest.mark.parametrize("model", ["kan", "mlp"])
def test_L3_is_no_gift_of_scaled_steps(model, benchmark, images):
    assert trained(model, benchmark, images, "adam", "occupancy")[0] > 1e-4


@pytest.mark.parametrize("model", KEPT)
@pytest.mark.parametrize("strategy", EXCEPTIONS)
def test_exceptions_to_L3_keep_old_outputs_instead(model, strategy, benchmark, images):
    found, drift = trained(model, benchmark, images, strategy=strategy)
    _, naive_drift = trained(model, benchmark, images)
    assert found > 0 and not keeps_it(model, strategy, "L3")
    assert drift < DRIFT["gram"] * naive_drift


@pytest.mark.parametrize("model", KEPT)
def test_occupancy_slows_the_drift_of_old_outputs(model, benchmark, images):
    _, drift = trained(model, benchmark, images, strategy="occupancy")
    _, naive_drift = trained(model, benchmark, images)
    assert drift < DRIFT["occupancy"] * naive_drift


@pytest.mark.parametrize("change", [refine, lambda layer: grow(layer, -5, 6)])
@keeping("L4")
def test_L4_grids_change_by_exact_insertion_only(model, keeps, change, images):
    net = network(model, grid_size=8, input_grid_size=2)
    x = torch.cat(images)[::4]
    x = torch.cat([x, 3 * x - 1])  # on the grid and off it
    before = net(x)
    for layer in net.layers:
        n_cells = layer.grid_size
        change(layer)
        assert layer.grid_size > n_cells
    torch.testing.assert_close(net(x), before, rtol=0, atol=2e-6)
    assert keeps


@keeping("L5")
def test_L5_off_grid_is_counted(model, keeps, images):
    net = network(model)
    on, off = images[0], images[0] - 1  # all of the background is off the grid
    assert all(layer.outside == "zero" for layer in net.layers)  # as configured
    shares = [net.off_grid_share(x)[0] for x in (on, off)]
    expected = [0, float((off < 0).double().mean())]
    assert (shares == pytest.approx(expected)) == keeps
    far = torch.tensor([[9.0], [99.0]]).expand(2, 784)
    y = net.layers[0].b_splines(far)
    assert torch.equal(y[0], y[1])  # zero, less the bases at the anchor


@keeping("L6")
def test_L6_occupancy_of_each_coefficient(model, keeps, images):
    options = {} if model == "mlp" else dict(input_grid_size=1, input_degree=1)
    layer = named_layers(network(model, **options))["layer_1"][0]
    first, second = (Occupancy.of(layer_bases(layer, x)) for x in images)
    assert first.mean.shape == layer_weights(layer).shape[:2]
    mean = images[0].double().mean(0)  # the second of two hats rises with the pixel
    assert torch.allclose(first.mean[:, -1], mean, atol=1e-6) == keeps
    assert not torch.equal(first.visited(), second.visited())


@keeping("L7")
def test_L7_background_has_no_share(model, keeps, images):
    net = network(model)
    background = (torch.cat(images) == 0).all(0)
    assert background.sum() > 100
    net(torch.cat(images)).square().sum().backward()
    layer = net.layers[0]
    gradient = layer.weight.grad.T if model == "mlp" else layer.coefficients.grad
    assert (not gradient[background].any()) == keeps


def table_rows(start):
    """Cells of the docs' table rows whose first cell matches."""
    rows = re.findall(rf"^\| ({start}.*) \|$", DOCS.read_text(), re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")] for row in rows]


def test_the_docs_say_which_clauses_a_model_keeps():
    ((*_, kan, kan_local, mlp),) = table_rows(r"clause ")
    models = [name.strip("`") for name in (kan, kan_local, mlp)]
    assert models == list(KEPT)
    rows = table_rows(r"L\d: ")
    assert [row[0][:2] for row in rows] == sorted(CLAUSES)
    for clause, *said in rows:
        for model, words in zip(models, said, strict=True):
            expected = "yes" if clause[:2] in KEPT[model] else "no"
            if clause[:2] in WITHOUT_GRID.get(model, ()):
                expected = "no grid"
            assert words.split(":")[0] == expected, (clause, model)


def test_the_docs_say_what_a_strategy_leaves_of_it_and_promises_instead():
    rows = table_rows("`(?:naive|occupancy|gram)`.*L")
    assert [row[0].split("`")[1] for row in rows] == list(DRIFT)
    for names, *said, promise in rows:
        strategy, *alike = re.findall(r"`(\w+)`", names)
        for model, words in zip(KEPT, said, strict=True):
            kept = {c for c in CLAUSES if keeps_it(model, strategy, c)}
            assert set(re.findall(r"L\d", words)) == kept, (strategy, model)
        assert [strategy, *alike] == (
            EXCEPTIONS if strategy in EXCEPTIONS else [strategy]
        )
        bound = DRIFT[strategy]
        shown = [] if bound is None else [f"{bound:g}"]
        assert re.findall(r"less than ([\d.]+) of", promise) == shown
