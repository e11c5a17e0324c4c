"""The forgetting curves as a person sees them, in a real TensorBoard and browser."""

import io

import pytest
from PIL import Image

from kancl.reporting.curves import Curves
from kancl.reporting.tensorboard import dashboard_url, write_comparison
from tests.reporting.browser import browser, missing, tensorboard
from tests.reporting.small_run import small_mlp
from tests.reporting.test_tensorboard import recorded_run, small_kan

pytestmark = pytest.mark.browser

CARDS = """[...document.querySelectorAll('metrics-pinned-view scalar-card')]"""


@pytest.fixture(scope="module")
def log_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("logs")
    curves = []
    for label, model in [("kan-naive", small_kan()), ("mlp-naive", small_mlp())]:
        recorder = recorded_run(root / label / "seed0", model, label, figures=False)
        curves.append(Curves.from_measurements(recorder.measurements, label))
    write_comparison(root / "comparison", curves)
    return root


@pytest.mark.slow
@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_both_models_curves_are_what_is_seen_first(log_dir):
    with tensorboard(log_dir) as address, browser() as page:
        page.open(dashboard_url(["kan-naive", "mlp-naive"], address))
        page.wait(f"{CARDS}.length === 2")
        titles = page.ask(f"{CARDS}.map(card => card.innerText).join('\\n')")
        assert "kan-naive" in titles and "mlp-naive" in titles
        boxes = page.ask(f"{CARDS}.map(card => card.getBoundingClientRect().toJSON())")
        left, right = boxes
        assert left["top"] == right["top"] < 300  # side by side, without scrolling
        colours = _wait_for_lines(page)
    assert colours >= 5  # a colour per experience and one for the borders


def _wait_for_lines(page):
    """The number of line colours in both cards, once the charts are drawn."""
    page.wait("document.fonts.status === 'loaded'")
    for _ in range(40):
        counts = [_n_colours(page, k) for k in (0, 1)]
        if min(counts) >= 5:
            break
        page.wait("new Promise(done => setTimeout(() => done(true), 250))")
    return min(counts)


def _n_colours(page, card):
    """Vivid colours of many pixels inside a card's chart."""
    box = page.ask(
        f"{CARDS}[{card}].querySelector('line-chart').getBoundingClientRect().toJSON()"
    )
    with Image.open(io.BytesIO(page.photograph())) as image:
        sides = [box[side] for side in ("left", "top", "right", "bottom")]
        chart = image.convert("RGB").crop(tuple(int(side) for side in sides))
    counts = chart.getcolors(chart.width * chart.height)
    vivid = [c for n, c in counts if n >= 12 and max(c) - min(c) > 60]
    return len({tuple(v // 32 for v in colour) for colour in vivid})
