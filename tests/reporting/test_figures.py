"""Figures say what the numbers say."""

import sys

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from kancl.metrics.score_matrix import RMSE
from kancl.reporting import figures
from kancl.reporting.colours import EXPERIENCES, experience_colour
from kancl.reporting.curves import Curves

RUN = Curves(
    "kan-naive",
    (((0, 0.1), (10, 0.9), (20, 0.3)), ((0, 0.2), (10, 0.0), (20, 0.8))),
    boundaries=(10, 20),
)
JOINT = Curves("kan-joint", RUN.points, boundaries=(20,), trains_jointly=True)


def _lines(axes, colour):
    """The data of the lines of a colour in the panel."""
    return [
        list(map(tuple, line.get_xydata()))
        for line in axes.lines
        if line.get_color() == colour
    ]


def test_every_experience_is_a_line_of_its_own_colour_faint_before_its_training():
    axes = figures.forgetting_curves([RUN]).axes[0]
    faint, strong = _lines(axes, experience_colour(1))
    assert faint == [(0, 0.2), (10, 0.0)]
    assert strong == [(10, 0.0), (20, 0.8)]
    faint, strong = _lines(axes, experience_colour(0))
    assert strong == [(0, 0.1), (10, 0.9), (20, 0.3)]


def test_boundaries_stand_where_an_experience_ends():
    axes = figures.forgetting_curves([RUN]).axes[0]
    upright = [line for line in axes.lines if list(line.get_xdata()) == [10, 10]]
    assert len(upright) == 1


def test_runs_stand_side_by_side_on_one_scale():
    figure = figures.forgetting_curves([RUN, JOINT], "Split MNIST")
    left, right = figure.axes
    assert left.get_title() == "kan-naive, 1 seed"
    assert right.get_title() == "kan-joint, 1 seed"
    assert left.get_ylim() == right.get_ylim()


def test_joint_training_shares_the_strip_evenly():
    points = tuple(((0, 0.1), (30, 0.9)) for _ in range(3))
    run = Curves("joint", points, boundaries=(30,), trains_jointly=True)
    axes = figures.forgetting_curves([run]).axes[0]
    places = {t.get_text(): t.get_position()[0] for t in axes.texts}
    assert [places[k] for k in "123"] == [5, 15, 25]


def test_errors_of_all_runs_share_a_scale_from_0_that_holds_them_all():
    small = Curves("kan", (((0, 0.2), (10, 0.1)),), (10,), score=RMSE)
    large = Curves("mlp", (((0, 0.2), (10, 0.9)),), (10,), score=RMSE)
    left, right = figures.forgetting_curves([small, large]).axes
    assert left.get_ylim() == right.get_ylim()
    assert left.get_ylim()[0] == 0 and left.get_ylim()[1] > 0.9
    assert left.get_ylabel() == "RMSE on each experience"
    assert "mean of\nseen: 0.9" in [text.get_text() for text in right.texts]


def test_the_mean_on_the_seen_is_written_out():
    axes = figures.forgetting_curves([RUN]).axes[0]
    assert "mean of\nseen: 55 %" in [text.get_text() for text in axes.texts]


def test_no_runs_are_refused():
    with pytest.raises(ValueError, match="no runs"):
        figures.forgetting_curves([])


def test_the_matrix_shows_its_numbers_and_leaves_gaps_blank():
    matrix = torch.tensor([[0.1, 0.2], [0.99, 0.004], [float("nan"), 0.5]])
    axes = figures.score_matrix(matrix.double(), "kan").axes[0]
    shown = {t.get_position(): t.get_text() for t in axes.texts}
    assert shown == {
        (0, 0): "10",
        (1, 0): "20",
        (0, 1): "99",
        (1, 1): "0",
        (1, 2): "50",
    }


@pytest.mark.parametrize("n", [1, 20])
def test_all_numbers_of_experiences_can_be_drawn(n, tmp_path):
    points = tuple(((0, 0.1), (10 * n, 0.5)) for _ in range(n))
    run = Curves("kan", points, tuple(range(10, 10 * n + 1, 10)))
    figures.forgetting_curves([run]).savefig(tmp_path / "curves.png")
    figures.score_matrix(torch.rand(n + 1, n)).savefig(tmp_path / "matrix.png")
    for name in ["curves", "matrix"]:
        with Image.open(tmp_path / f"{name}.png") as image:
            assert min(image.size) > 100


def test_pixels_show_the_colours_of_the_experiences():
    pixels = figures.as_pixels(figures.forgetting_curves([RUN]))
    assert pixels.dtype == np.uint8
    shown = {tuple(colour) for colour in pixels.reshape(-1, 3).tolist()}
    for experience in (0, 1, 2):
        red_green_blue = tuple(bytes.fromhex(experience_colour(experience)[1:]))
        assert (red_green_blue in shown) == (experience < 2)


def test_drawing_touches_no_global_state():
    before = dict(matplotlib.rcParams)
    n_open = None
    if "matplotlib.pyplot" in sys.modules:
        n_open = len(sys.modules["matplotlib.pyplot"].get_fignums())
    assert isinstance(figures.forgetting_curves([RUN]), Figure)
    figures.as_pixels(figures.score_matrix(torch.rand(3, 2)))
    assert dict(matplotlib.rcParams) == before
    if n_open is not None:
        assert len(sys.modules["matplotlib.pyplot"].get_fignums()) == n_open


def test_colours_are_fixed_and_distinct():
    assert len(set(EXPERIENCES)) == len(EXPERIENCES) == 10
    assert experience_colour(10) == experience_colour(0)


def test_the_mean_over_seeds_has_a_band_from_each_experiences_start():
    bands = (((0, 0.0, 0.2), (10, 0.8, 1.0), (20, 0.2, 0.4)),) * 2
    run = Curves("kan-naive", RUN.points, RUN.boundaries, n_seeds=5, bands=bands)
    axes = figures.forgetting_curves([run]).axes[0]
    assert axes.get_title() == "kan-naive, mean of 5 seeds"
    spans = [
        (path.vertices[:, 0].min(), path.vertices[:, 0].max())
        for band in axes.collections
        if band.get_alpha() == 0.2
        for path in band.get_paths()
    ]
    assert spans == [(0, 20), (10, 20)]


def test_the_spread_over_seeds_stands_below_the_mean():
    matrix = torch.tensor([[0.1], [0.9]], dtype=torch.float64)
    spread = torch.tensor([[0.02], [0.03]], dtype=torch.float64)
    figure = figures.score_matrix(matrix, "kan-naive", spread)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["10", "± 2", "90", "± 3"]
    assert "± sd" in figure.axes[0].get_title()
