"""What the plugin records, against the functions on tensors; and that it only looks."""

import re
from dataclasses import asdict, replace
from functools import partial

import pytest
import torch

from kancl.data.rows import as_tensors
from kancl.metrics.diagnosis import Samples, reviews, shared_between
from kancl.metrics.locality import (
    Occupancy,
    drift_per_knot,
    falls,
    forecast_quality,
    inference,
    overlap,
)
from kancl.metrics.score_matrix import UndefinedMetric
from kancl.models import kan, mlp
from kancl.models.heads import with_head
from kancl.models.inspect import eval_mode
from kancl.observe.recorder import RecorderPlugin
from kancl.observe.snapshots import SnapshotPlugin
from tests.reporting.small_run import naive, stream_of_digits, train_through


def trained(model, watch=True, n=3):
    benchmark = stream_of_digits(5, n_train=64)
    recorder = RecorderPlugin(5)
    plugin = SnapshotPlugin(recorder, benchmark.test_stream, 40)
    plugins = [recorder, plugin] if watch else [recorder]
    train_through(naive(model, plugins, epochs=1), benchmark)
    return recorder, plugin, benchmark


def small(build, kind="single"):
    torch.manual_seed(3)
    return with_head(build(784, 10, hidden=(6,)), kind, 10)


@pytest.fixture(scope="module")
def kan_run():
    model = small(kan)
    return (*trained(model), model)


def value(recorder, name, experience=None):
    _, values = recorder.series(f"locality_{name}", experience)
    return values[-1]


def test_it_only_looks(kan_run):
    other = small(kan)
    trained(other, watch=False)
    for a, b in zip(other.parameters(), kan_run[-1].parameters()):
        assert torch.equal(a, b)
    assert kan_run[-1].training


def test_overlaps_are_those_of_the_samples_before_training(kan_run):
    recorder, plugin, benchmark, model = kan_run
    x = [as_tensors(e.dataset, 40)[0].flatten(1) for e in benchmark.test_stream]
    layer = model.network.layers[0]
    views = overlap(
        Occupancy.of(layer.b_splines(x[0])), Occupancy.of(layer.b_splines(x[2]))
    )
    for view in ("exposure", "jaccard", "coactivation", "bhattacharyya"):
        name = f"{view}_layer_1_before_3"
        assert value(recorder, name, 0) == pytest.approx(getattr(views, view))
    ours = value(recorder, "kernel_ratio_layer_1_before_3", 0)
    assert ours == pytest.approx(views.kernel_ratio)  # no basis is negative here
    hidden = model.network.layers[1]
    before = with_head(kan(784, 10, hidden=(6,)), "single", 10)
    before.load_state_dict(plugin.snapshots[2])  # after two, before the third
    with torch.no_grad():
        h = [before.network.layers[0](x[k]) for k in (0, 2)]
    found = overlap(*(Occupancy.of(hidden.b_splines(each)) for each in h))
    name = "exposure_head_before_3"
    assert value(recorder, name, 0) == pytest.approx(found.exposure, abs=1e-5)


def test_drift_and_rollback_go_back_to_the_states_kept(kan_run):
    recorder, plugin, benchmark, model = kan_run
    assert len(plugin.snapshots) == 6
    then = plugin.snapshots[2]["network.layers.0.coefficients"]
    drift = drift_per_knot(then, model.network.layers[0].coefficients.detach())
    assert torch.equal(plugin.reviews[1].drifts["layer_1"], drift)
    assert value(recorder, "drift_layer_1", 1) == pytest.approx(drift.norm().item())
    x, y, _ = as_tensors(benchmark.test_stream[1].dataset, 40)
    old = small(kan)
    for state, name in ((plugin.snapshots[2], "all"), (plugin.snapshots[5], "nothing")):
        old.load_state_dict(state)
        right = (old(x).argmax(1) == y).double().mean().item()
        assert value(recorder, f"rollback_{name}", 1) == right
    groups = {m.name for m in recorder.measurements if "rollback" in m.name}
    assert {name.removeprefix("locality_rollback_") for name in groups} == {
        *("nothing", "layer_1", "head", "splines", "base", "all")
    }


def test_inference_and_forecasts_are_those_of_the_functions(kan_run):
    recorder, _, benchmark, model = kan_run
    parts = [as_tensors(e.dataset, None) for e in benchmark.test_stream]
    x, y = torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
    with torch.no_grad():
        split = inference(model(x), y, [c // 2 for c in range(10)])
    assert value(recorder, "experience_inference") == split.experience_inference
    right = split.experience_inference * value(recorder, "within_experience_accuracy")
    assert right == pytest.approx(float(recorder.matrix[5].mean()))
    assert value(recorder, "oracle_accuracy") == split.oracle_accuracy
    taken = falls(recorder.matrix)
    name = "bhattacharyya_head"
    seen = {}
    for m in recorder.measurements:
        pair = re.fullmatch(rf"locality_{name}_before_(\d)", m.name)
        if pair:
            seen[m.experience, int(pair[1]) - 1] = m.value
    assert seen.keys() == taken.keys() and len(seen) == 10
    quality = forecast_quality([seen[p] for p in taken], list(taken.values()))
    assert value(recorder, f"forecast_{name}") == pytest.approx(quality)


def test_the_states_alone_tell_what_was_measured_live(kan_run):
    recorder, plugin, benchmark, model = kan_run
    samples = Samples(benchmark.test_stream, 40)
    with eval_mode(model):
        afterwards = list(shared_between(model, plugin.snapshots, samples))
        found = list(reviews(model, plugin.snapshots, samples, recorder.score))
    assert len(afterwards) == 2 * 10
    for pair, live in zip(afterwards, plugin.pairs, strict=True):
        assert pair == replace(live, cosines=None)
        for view, measured in asdict(pair.overlap).items():
            name = f"{view}_{pair.layer}_before_{pair.new + 1}"
            assert value(recorder, name, pair.old) == measured
    for review, live in zip(found, plugin.reviews, strict=True):
        assert review.rollback == live.rollback and review.bounds == live.bounds


def test_a_checkpoint_holds_what_cannot_be_made_again(kan_run):
    recorder, plugin, benchmark, model = kan_run
    resumed = SnapshotPlugin(recorder, benchmark.test_stream, 40)
    resumed.load_state_dict(plugin.state_dict())
    resumed.look_back(model)
    assert [r.rollback for r in resumed.reviews] == [r.rollback for r in plugin.reviews]


@pytest.mark.parametrize(("build", "kind"), [(mlp, "single"), (kan, "growing")])
def test_mlps_and_growing_heads_are_looked_into_too(build, kind):
    try:
        recorder, plugin, _ = trained(small(build, kind))
    except UndefinedMetric as error:
        pytest.fail(str(error))
    assert len(plugin.snapshots) == 6
    assert 0 <= value(recorder, "rollback_all", 0) <= 1
    splines = [m for m in recorder.measurements if "effective_fraction" in m.name]
    assert bool(splines) == (build is kan)


def test_hidden_values_off_the_grid_altogether_end_no_run():
    model = small(partial(kan, hidden_range=(50, 60), base=False))
    recorder, plugin, _ = trained(model, n=3)
    assert len(plugin.snapshots) == 6
    names = {m.name for m in recorder.measurements}
    assert "locality_exposure_layer_1_before_2" in names
    assert "locality_exposure_head_before_2" not in names


def test_too_few_samples_are_refused():
    stream = stream_of_digits(2).test_stream
    with pytest.raises(ValueError, match="at least 2, got 1"):
        SnapshotPlugin(RecorderPlugin(2), stream, 1)
