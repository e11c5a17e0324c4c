"""The share of values off the grid, counted directly."""

import pytest
import torch

from kancl.models import kan
from kancl.models.heads import with_head
from kancl.observe.curves import OffGridPlugin
from kancl.observe.recorder import RecorderPlugin
from tests.reporting.small_run import naive, small_mlp, stream_of_digits, train_through


def _run(model, **options):
    benchmark = stream_of_digits(2, n_train=32, **options)
    recorder = RecorderPlugin(2)
    plugin = OffGridPlugin(recorder, benchmark.test_stream)
    train_through(naive(model, [recorder, plugin]), benchmark, evaluate=False)
    return recorder, plugin, benchmark


def _network(input_range):
    return kan(784, 10, hidden=(8,), input_range=input_range)


def test_a_grid_over_the_range_of_the_inputs_misses_no_pixel():
    recorder, _, _ = _run(with_head(_network((0, 1)), "single", 10))
    assert recorder.series("off_grid_share_layer_1") == ([0, 4, 8], [0.0, 0.0, 0.0])


def test_mean_and_deviation_push_bright_pixels_off_a_grid_of_one():
    model = with_head(_network((-1, 1)), "single", 10)
    _, plugin, benchmark = _run(model, normalize="standard")
    x = torch.stack(
        [e.dataset[k * 64 // 50][0] for e in benchmark.test_stream for k in range(50)]
    )
    by_hand = (x.abs() > 1).double().mean().item()
    assert 0.05 < by_hand < 0.3
    assert plugin.shares[0] == pytest.approx(by_hand)
    hidden = model.network.layers[0](x.flatten(1))
    low, high = model.network.layers[1].grid[0, [3, -4]]
    outside = ((hidden < low) | (hidden > high)).double().mean().item()
    assert plugin.shares[1] == pytest.approx(outside)


def test_a_network_without_splines_has_no_rows():
    recorder, plugin, _ = _run(small_mlp())
    assert plugin.shares == []
    assert not [m for m in recorder.measurements if m.name.startswith("off_grid")]


def test_shares_of_no_samples_are_refused():
    stream = stream_of_digits(2).test_stream
    with pytest.raises(ValueError, match="at least 1, got 0"):
        OffGridPlugin(RecorderPlugin(2), stream, samples_per_experience=0)
