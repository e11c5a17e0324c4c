"""Grids change when an experience asks for it, and nothing else does."""

import copy

import pytest
import torch
from avalanche.training.plugins import SupervisedPlugin

from kancl.models import KAN
from kancl.models.heads import with_head
from kancl.models.inspect import trainable
from kancl.observe.recorder import RecorderPlugin
from kancl.plugins.penalties.ewc import EWCPlugin
from kancl.plugins.plugin import TrainingSetup
from kancl.plugins.steps.frozen import HardMaskPlugin
from kancl.plugins.steps.grid_growth import GridGrowthPlugin
from kancl.plugins.steps.step_preconditioner import GramPlugin, OccupancyPlugin


def network(low=-4.0, high=4.0, size=8):
    torch.manual_seed(0)
    net = KAN(
        [6, 5, 4],
        size,
        2,
        grid_range=(low, high),
        base=False,
        enable_standalone_scale_spline=False,
    )
    return with_head(net, "single", 4)


class Before(EWCPlugin):
    """EWC that looks at the network and at its own penalty at the first update."""

    def before_forward(self, strategy, **kwargs):
        if strategy.clock.train_exp_iterations == 0:
            self.outputs = strategy.model(self.x).detach()
            self.held = float(self.anchor.penalty(trainable(strategy.model)).detach())


def test_a_grid_grows_to_hold_an_experience_and_keeps_all_else(naive, points_benchmark):
    first, second = points_benchmark("domain", 2).train_stream
    x = torch.cat([torch.stack([x for x, *_ in e.dataset]) for e in (first, second)])
    reach = x.abs().max().item() / 2
    growth, ewc = GridGrowthPlugin(off_grid=0.02), Before(ewc_lambda=1.0)
    ewc.x = 2 * x
    strategy = naive(network(-reach, reach), growth, ewc)
    strategy.optimizer = torch.optim.Adam(strategy.model.parameters(), lr=0.01)
    strategy.train(first)
    assert growth.changes == []
    before = strategy.model(ewc.x).detach()
    layer = strategy.model.network.layers[0]
    shares = layer.off_grid_share(x[len(x) // 2 :])
    assert shares > 0.02
    strategy.train(second)
    change = growth.changes[0]
    assert (change.experience, change.layer) == (1, "network.layers.0")
    assert change.why == f"{shares:.1%} off the grid"
    assert change.grid_size == layer.grid_size > 8
    assert layer.off_grid_share(x[len(x) // 2 :]) == 0
    torch.testing.assert_close(ewc.outputs, before, rtol=0, atol=1e-5)
    assert ewc.held == pytest.approx(0, abs=1e-6)  # the anchor came along
    for each in strategy.model.network.layers:
        state = strategy.optimizer.state[each.coefficients]
        assert state["exp_avg"].shape == each.coefficients.shape
        assert state["step"] == 6  # Adam went on where it was


def test_a_grid_gets_finer_where_few_bases_are_used(naive, points_benchmark):
    first, second = points_benchmark("domain", 2).train_stream
    growth = GridGrowthPlugin(off_grid=1, refine_below=0.5, largest=30)
    strategy = naive(network(-12, 12), growth)
    strategy.train([first, second])
    first_layer = strategy.model.network.layers[0]
    assert first_layer.grid_size >= 16
    assert "of the bases used" in growth.changes[0].why
    sizes = {c.layer: c.grid_size for c in growth.changes}
    strategy.train(second)  # 2 * 16 > largest
    assert {c.layer: c.grid_size for c in growth.changes} == sizes


def test_a_grid_gets_finer_once_and_one_far_value_makes_no_thousands_of_cells(
    naive, points_benchmark
):
    stream = points_benchmark("domain", 3).train_stream
    recorder = RecorderPlugin(3)
    growth = GridGrowthPlugin(off_grid=0, refine_below=1, largest=999)
    growth.prepare(TrainingSetup(network(), None, record=recorder.add))
    strategy = naive(network(-0.01, 0.01), recorder, growth)
    for experience in stream:
        strategy.train(experience)
    refined = [c.layer for c in growth.changes if "used" in c.why]
    assert refined == ["network.layers.0", "network.layers.1"]
    first = [c.grid_size for c in growth.changes if c.layer == "network.layers.0"]
    # 8 cells, twice their width on either side (and what keeps the fading), each time
    assert first[0] < 5 * 8 + 8 and max(first) < 1000
    _, told = recorder.series("locality_grid_size_layer_1")
    assert told == first


def test_a_hard_mask_comes_along(naive, points_benchmark):
    first, second = points_benchmark("domain", 2).train_stream
    mask = HardMaskPlugin(threshold=0)
    growth = GridGrowthPlugin(off_grid=0, refine_below=1, largest=60)
    torch.manual_seed(0)
    net = KAN([6, 4], 8, 2, base=False, enable_standalone_scale_spline=False)
    strategy = naive(with_head(net, "single", 4), growth, mask)
    strategy.train(first)
    x = torch.stack([x for x, *_ in first.dataset]).clamp(-1, 1)
    before = strategy.model(x).detach()
    strategy.train(second)
    assert [c.why[-4:] for c in growth.changes] == ["grid", "used"]
    assert (
        mask.visited["network.layers.0"].shape == net.layers[0].coefficients.shape[:2]
    )
    torch.testing.assert_close(strategy.model(x), before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("change", [{"off_grid": 0.02}, {"refine_below": 1.0}])
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.AdamW, "sgd"])
def test_growing_keeps_old_outputs_to_1e6_and_the_loss_does_not_jump(
    naive, points_benchmark, optimizer, change
):
    first, second = points_benchmark("domain", 2).train_stream
    x = torch.cat([torch.stack([x for x, *_ in e.dataset]) for e in (first, second)])
    reach = x.abs().max().item() / 2
    losses, outputs = {}, []

    class Watch(SupervisedPlugin):
        """Outputs at a dense sample before and after growing, in float64; losses."""

        def before_training_exp(self, strategy, **kwargs):
            self.look(strategy)

        def look(self, strategy):
            exact = copy.deepcopy(strategy.model).double()
            outputs.append(exact(2 * x.double()).detach())

        def after_training_iteration(self, strategy, **kwargs):
            losses.setdefault(grows, []).append(strategy.loss.item())

    for grows in (False, True):
        outputs.clear()
        growth = GridGrowthPlugin(**{"off_grid": 1, **change})
        watch = [Watch(), growth, Watch()] if grows else [Watch()]
        strategy = naive(network(-reach, reach), *watch)
        parameters = strategy.model.parameters()
        strategy.optimizer = (
            torch.optim.SGD(parameters, lr=0.05, momentum=0.9)
            if optimizer == "sgd"
            else optimizer(parameters, lr=0.01)
        )
        strategy.train([first, second])
    assert growth.changes
    before, after = outputs[-2:]
    assert (after - before).abs().max() <= 1e-6 * max(1, float(before.abs().max()))
    grown = losses[True][::2]  # two plugins wrote each down
    usual = losses[False]
    assert len(grown) == len(usual) == 6
    assert grown[:4] == pytest.approx(usual[:4], rel=1e-5)  # 4: the first after growing
    assert max(grown[3:]) < 1.25 * max(usual[3:])


def test_occupancies_are_carried_along(naive, points_benchmark):
    first, second = points_benchmark("domain", 2).train_stream
    scaling = OccupancyPlugin()
    strategy = naive(network(-1, 1), GridGrowthPlugin(off_grid=0.02), scaling)
    strategy.train(first)
    layer = strategy.model.network.layers[0]
    occupancy = scaling.preconditioners["network.layers.0"].occupancy.view(6, -1)
    n_old = occupancy.shape[1]
    growth = strategy.plugins[0]
    growth.before_training_exp(SecondTime(strategy, second))
    n_new = layer.coefficients.shape[1]
    carried = scaling.preconditioners["network.layers.0"].occupancy.view(6, -1)
    assert growth.changes and carried.shape[1] == n_new > n_old
    # cells were added on both sides: what there was is there, 0 elsewhere
    start = int((carried[0] > 0).nonzero()[0] - (occupancy[0] > 0).nonzero()[0])
    torch.testing.assert_close(carried[:, start : start + n_old], occupancy)
    assert carried.sum() == pytest.approx(occupancy.sum().item())
    strategy.train(second)  # steps are scaled on


class SecondTime:
    """A strategy as it is when the second experience is about to be trained."""

    def __init__(self, strategy, experience):
        self._strategy, self.experience = strategy, experience

    def __getattr__(self, name):
        return getattr(self._strategy, name)


def test_grams_of_old_bases_are_refused(naive, points_benchmark):
    stream = points_benchmark("domain", 2).train_stream
    gram = GramPlugin()
    strategy = naive(network(-0.5, 0.5), GridGrowthPlugin(off_grid=0.0), gram)
    strategy.train(stream[0])
    with pytest.raises(ValueError, match="leave grow_grids out"):
        strategy.train(stream[1])


@pytest.mark.parametrize(
    "options", [{"off_grid": 2}, {"refine_below": -1}, {"largest": 0}]
)
def test_options_out_of_range_are_refused(options):
    (name,) = options
    with pytest.raises(ValueError, match=name):
        GridGrowthPlugin(**options)
