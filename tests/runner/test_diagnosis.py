"""From a run with its states to words; and what is said where they are missing."""

import numpy as np
import pytest
import torch

from kancl.cli import main
from kancl.config import ConfigError
from kancl.metrics.diagnosis import Forecast, Shared, forecasts
from kancl.metrics.locality import Overlap, falls
from kancl.observe.recorder import RecorderPlugin
from kancl.reporting.diagnosis import forecast_table
from kancl.runner.check import check
from kancl.runner.diagnosis import look_into
from kancl.runner.request.compose import read_request
from kancl.runs.reader import read_snapshots

LOOK = "evaluation.locality=true"


@pytest.mark.parametrize("model", ["kan", "mlp"])
def test_a_run_is_put_into_words_and_numbers(make_run, capsys, model):
    summary, folder = make_run(LOOK, f"model={model}", "scenario.n_experiences=5")
    states = torch.load(folder / "snapshots.pt", weights_only=True)["states"]
    assert len(states) == 6
    arrays = np.load(folder / "locality.npz", allow_pickle=False)
    n_basis = 8 if model == "kan" else 1
    assert arrays["occupancy_layer_1"].shape == (5, 784, n_basis)
    finding = look_into(folder)
    lost = [(finding.matrix[k + 1, k] - finding.matrix[-1, k]).item() for k in range(4)]
    for review, expected in zip(finding.reviews, [*lost, None], strict=True):
        if expected is None:
            assert review.rollback is None
        else:
            assert review.rollback.forgotten == pytest.approx(expected, abs=1e-12)
    assert main(["locality", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "All put back: exactly the values of then" in out
    assert f"What {model}-naive on split_mnist, seed 0 forgot" in out
    assert "rank correlations with what that training took" in out
    assert "experience inference" in out and "oracle accuracy" in out
    pictures = {path.stem for path in (folder / "locality").glob("*.png")}
    assert pictures == {"occupancy", "overlap", "drift_per_knot", "rollback"}
    kinds = "splines" if model == "kan" else "biases"
    assert kinds in out and ("base" in out) == (model == "kan")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ((0.1, -0.2, 0.7), "did not foretell who would lose most"),
        ((0.5, 0.4, 0.9), "foretold some of it"),
        ((-0.5, -0.4, 0.9), "foretold the contrary"),
    ],
)
def test_the_verdict_is_the_median_view_not_the_luckiest(values, says):
    views = ("exposure", "jaccard", "kernel_ratio")
    judged = [
        Forecast("head", view, (0.5,), value) for view, value in zip(views, values)
    ]
    notes = " ".join(forecast_table(judged).notes)
    assert says in notes and "hindsight: kernel ratio head" in notes
    undefined = forecast_table([Forecast("head", "jaccard", (0.5,), None)])
    assert undefined.notes[0].startswith("No rank correlation can be told")
    assert "n/a (too few pairs, or all alike)" in undefined.markdown()
    assert "No overlap was measured" in forecast_table([]).notes[0]


def test_over_several_runs_all_pairs_are_ranked_together(make_run, capsys):
    """Within each run overlap ranks the losses rightly; over both it must not."""
    runs = []
    for shift in (0.0, 1.0):
        matrix = torch.tensor([[0.5] * 3, [0.9] * 3, [0.8, 0.9, 0], [0.5, 0.7, 0.9]])
        lost = {(0, 1): 0.1, (0, 2): 0.3, (1, 2): 0.2}
        pairs = [
            Shared("head", *pair, Overlap(fall + shift, 0, 0, fall, 0), None)
            for pair, fall in lost.items()
        ]
        scale = 1 - shift / 2  # the second loses half as much
        matrix = matrix.double()
        matrix[2:] = matrix[1] - scale * (matrix[1] - matrix[2:])
        runs.append((pairs, falls(matrix)))
    alone = {f.view: f for f in forecasts(runs[:1])}
    assert len(alone["jaccard"].overlaps) == 3
    assert alone["jaccard"].correlation == pytest.approx(1)
    assert alone["coactivation"].correlation is None
    pooled = {f.view: f for f in forecasts(runs)}
    assert {f.layer for f in pooled.values()} == {"head"}
    assert len(pooled["jaccard"].overlaps) == 6 and pooled["jaccard"].correlation < 0.9
    nowhere = [Shared("layer_1", *pair, None, None) for pair in lost]
    assert forecasts([*runs, (nowhere, falls(matrix))]) == []

    folders = [make_run(LOOK, f"seed={seed}")[1] for seed in (0, 1)]
    assert main(["locality", *map(str, folders)]) == 0
    out = capsys.readouterr().out
    assert "over the pairs of 2 runs" in out and "Median of" in out


def test_folders_without_what_is_needed_say_the_way_out(make_run, tmp_path, capsys):
    _, folder = make_run("scenario.n_experiences=2")
    assert main(["locality", str(folder)]) == 2
    said = capsys.readouterr().err
    assert f"kancl run --from {folder} evaluation.locality=true" in said
    assert main(["locality", str(tmp_path / "nowhere")]) == 2
    assert "takes a run folder" in capsys.readouterr().err
    (folder / "snapshots.pt").write_bytes(b"no states")
    assert main(["locality", str(folder)]) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert main(["locality", str(folder), "--samples", "0"]) == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["strategy=joint"], "trains on all experiences at once"),
        (["strategy=nearest_mean"], "puts a last layer of its own"),
        (["scenario=mnist"], "has a single experience"),
    ],
)
def test_nothing_to_follow_is_refused_before_training(words, says):
    words = [LOOK, "scenario.train_samples=20", "scenario.test_samples=10", *words]
    (config,) = read_request(words, sweep=False).configs
    with pytest.raises(ConfigError, match=says):
        check([config])


def test_regressions_are_diagnosed_by_their_errors(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["scenario=gaussian_peaks", "training.iterations=5", "tensorboard=none"]
    assert main(["run", "-q", LOOK, "device=cpu", *words]) == 0
    (folder,) = tmp_path.glob("logs/gaussian_peaks/*/*")
    assert main(["locality", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "RMSE with one group of parameters put back" in out
    assert "the values of then, for every experience" in out


class Killed(BaseException):
    """No Exception, so that nothing is written down on the way out."""


@pytest.mark.parametrize("words", [(), ("model=mlp", "scenario.head=growing")])
def test_a_killed_run_is_diagnosed_in_the_same_bytes(
    make_run, tmp_path, monkeypatch, words
):
    words = (LOOK, "scenario.n_experiences=5", "training.iterations=4", *words)
    words += ("checkpoint.every_iterations=2",)
    _, undisturbed = make_run(*words, log_dir=tmp_path / "a")
    after = RecorderPlugin.after_training_iteration
    for kill in (3, 6, 15):  # before the first comparison, after it, and near the end

        def dying(self, strategy, **kwargs):
            after(self, strategy, **kwargs)
            if self.iteration == kill:
                raise Killed

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(RecorderPlugin, "after_training_iteration", dying)
            make_run(*words, log_dir=tmp_path / "b")
    _, folder = make_run(*words, log_dir=tmp_path / "b")
    assert "resumed_at_iterations" in (folder / "env.json").read_text()
    for name in ("metrics.csv", "locality.npz"):
        assert (undisturbed / name).read_bytes() == (folder / name).read_bytes(), name
    for one, other in zip(
        read_snapshots(undisturbed), read_snapshots(folder), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
