"""Importances pooled per knot, and divided by use."""

import pytest
import torch

from kancl.models import KAN
from kancl.models.heads import with_head
from kancl.plugins.penalties.ewc import EWCPlugin
from kancl.plugins.penalties.importances import (
    MASPlugin,
    SynapticIntelligencePlugin,
)

PLUGINS = {
    "ewc": lambda pooling: EWCPlugin(ewc_lambda=1.0, pooling=pooling),
    "mas": lambda pooling: MASPlugin(mas_lambda=1.0, pooling=pooling),
    "si": lambda pooling: SynapticIntelligencePlugin(si_c=1.0, pooling=pooling),
}


@pytest.mark.parametrize("name", PLUGINS)
def test_importances_by_knot_and_by_use(name, naive, points_benchmark):
    (first,) = points_benchmark("domain", 1).train_stream
    x = torch.stack([x for x, *_ in first.dataset])
    found = {}
    for pooling in ("none", "knot", "occupancy"):
        torch.manual_seed(0)
        plugin = PLUGINS[name](pooling)
        net = KAN([6, 5, 4], grid_range=(-3, 3))
        strategy = naive(with_head(net, "single", 4), plugin)
        strategy.train(first)
        found[pooling] = plugin.anchor.importance
        layer = strategy.model.network.layers[0]
    key = "network.layers.0.coefficients"
    plain = found["none"][key]
    mean = plain.mean(-1, keepdim=True).expand_as(plain)
    torch.testing.assert_close(found["knot"][key], mean)
    use = layer.b_splines(x).abs().mean(0).double()
    share = (use / use.mean()).clamp(min=1e-3).float().unsqueeze(-1)
    torch.testing.assert_close(found["occupancy"][key], plain / share)
    others = [n for n in found["none"] if not n.endswith("coefficients")]
    assert others
    for n in others:
        assert torch.equal(found["knot"][n], found["none"][n])


@pytest.mark.parametrize("name", PLUGINS)
def test_another_kind_is_refused(name):
    with pytest.raises(
        ValueError, match="pooling=row is not one of none, knot, occupancy"
    ):
        PLUGINS[name]("row")
