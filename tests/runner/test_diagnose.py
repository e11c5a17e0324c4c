"""From a run with its states to words; and what is said where they are missing."""

import numpy as np
import pytest
import torch

from kancl.cli import main
from kancl.config import ConfigError
from kancl.runner.diagnose import Finding, _foreseen, look_into, pooled_forecasts
from kancl.runner.request.check import check
from kancl.runner.request.compose import read_request

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
    for back, expected in zip(finding.rollbacks, lost):
        assert back.forgotten == pytest.approx(expected, abs=1e-12)
    assert main(["locality", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "All put back: exactly the values of then" in out
    assert f"What {model}-naive on split_mnist, seed 0 forgot" in out
    assert "rank correlations with what that training took" in out
    assert "the right experience wins" in out
    pictures = {path.stem for path in (folder / "locality").glob("*.png")}
    assert pictures == {"occupancy", "overlap", "drift_per_knot", "rollback"}
    kinds = "splines" if model == "kan" else "biases"
    assert kinds in out and ("base" in out) == (model == "kan")


def finding(forecasts):
    return Finding("", "accuracy", torch.zeros(6, 5), [], forecasts, {}, 0.0, {})


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ((0.1, -0.2, 0.7), "did not foretell who would lose most"),
        ((0.5, 0.4, 0.9), "foretold some of it"),
        ((-0.5, -0.4, 0.9), "foretold the contrary"),
    ],
)
def test_the_verdict_is_the_median_view_not_the_luckiest(values, says):
    views = ("exposure_head", "jaccard_head", "kernel_ratio_head")
    _, verdict = _foreseen(finding(dict(zip(views, values))))
    assert says in verdict and "kernel ratio head" in verdict
    assert "no rank correlation can be told" in _foreseen(finding({}))[1]


def test_over_several_runs_all_pairs_are_ranked_together(make_run, capsys):
    """Within each run overlap ranks the losses rightly; over both it must not."""
    runs = []
    for shift in (0.0, 1.0):
        matrix = torch.tensor([[0.5] * 3, [0.9] * 3, [0.8, 0.9, 0], [0.5, 0.7, 0.9]])
        lost = {(0, 1): 0.1, (0, 2): 0.3, (1, 2): 0.2}
        overlap = {pair: fall + shift for pair, fall in lost.items()}
        overlaps = {
            "jaccard_head": overlap,
            **({"exposure_head": lost} if shift else {}),
        }
        scale = 1 - shift / 2  # the second loses half as much
        matrix = matrix.double()
        matrix[2:] = matrix[1] - scale * (matrix[1] - matrix[2:])
        runs.append(Finding("", "accuracy", matrix, [], {}, overlaps, 0.0, {}))
    assert pooled_forecasts(runs[:1])["jaccard_head"] == (3, pytest.approx(1))
    pooled = pooled_forecasts(runs)
    assert set(pooled) == {"jaccard_head"}
    n, rank = pooled["jaccard_head"]
    assert n == 6 and rank < 0.9

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
