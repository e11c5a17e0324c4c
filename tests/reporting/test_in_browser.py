"""What a person sees of a comparison, in a real TensorBoard, report and browser."""

import io

import pytest
from PIL import Image

from kancl.reporting.events import dashboard_url
from kancl.reporting.groups import write_groups
from kancl.reporting.report import write_report
from kancl.reporting.variants import benchmarks
from kancl.runs import find_runs
from tests.reporting.browser import browser, missing, tensorboard
from tests.reporting.report.conftest import plant_runs

pytestmark = pytest.mark.browser

CARDS = """[...document.querySelectorAll('metrics-pinned-view scalar-card')]"""
ALL_OF = """(function all(root, name) { return [...root.querySelectorAll('*')].flatMap(e =>
    [...e.matches(name) ? [e] : [], ...e.shadowRoot ? all(e.shadowRoot, name) : []]) })"""
GROUPS = [f"{m}-{s}" for m in ("kan", "mlp") for s in ("naive", "ewc", "replay")]


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """2 models x 3 strategies x 10 seeds, and their comparison ``first``."""
    logs = tmp_path_factory.mktemp("logs")
    words = ["model=kan,mlp", "strategy=naive,ewc,replay", "seed=range(10)"]
    kept = {"naive": 0.1, "ewc": 0.4, "replay": 0.7}
    plant_runs(
        logs,
        *words,
        outcome=lambda c: (0.9, kept[c.strategy.name] + 0.01 * (c.seed % 3)),
    )
    groups = benchmarks(find_runs([logs]))
    write_groups(logs / "comparisons" / "first", groups, pictures=False)
    return logs


@pytest.mark.proof
@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_a_comparison_of_60_runs_opens_with_all_groups_ticked_and_drawn(logs):
    with tensorboard(logs / "comparisons/first") as address, browser() as page:
        page.open(dashboard_url("(^|/first/)[^/]+(/(low|high))?$", address=address))
        page.wait(f"{CARDS}.length === 2")
        words = page.ask(f"{CARDS}.map(card => card.innerText)")
        titles = [text.replace("\n/", "/") for text in words]
        assert "accuracy/seen" in titles[0] and "accuracy/experience_1" in titles[1]
        boxes = page.ask(f"{CARDS}.map(card => card.getBoundingClientRect().toJSON())")
        left, right = boxes
        assert left["top"] == right["top"] < 300  # side by side, without scrolling
        ticks = "[...document.querySelectorAll('runs-data-table mat-checkbox input')]"
        assert set(page.ask(f"{ticks}.map(tick => tick.checked)")) == {True}
        assert _wait_for_lines(page) >= 4  # as many as the strategies, and boundaries
        page.open("about:blank")
        page.open(f"{address}/#custom_scalars")
        lists = f"{ALL_OF}(document, 'tf-custom-scalar-margin-chart-card')"
        page.wait(f"{lists}.length === 4")
        matches = f"{ALL_OF}(document, '.match-list-entry')"
        page.wait(f"{matches}.length === {4 * len(GROUPS)}")
        for group in GROUPS:  # in every chart
            mine = f"e.textContent.includes('{group}')"
            assert page.ask(f"{matches}.filter(e => {mine}).length") == 4


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


@pytest.mark.proof
@pytest.mark.skipif(missing() is not None, reason=str(missing()))
@pytest.mark.parametrize("width", [1400, 600])
def test_a_report_is_whole_labelled_and_asks_nobody_for_anything(report, width):
    with browser(width) as page:
        page.open(report.page.as_uri())
        page.wait("document.readyState === 'complete'")
        assert page.ask("performance.getEntriesByType('resource').length") == 0
        assert page.ask("document.documentElement.scrollWidth <= innerWidth")
        words = page.ask("document.querySelector('.verdicts').innerText")
        assert "KAN forgets less" in words and "n = 6" in words
        top = "document.querySelector('.tag').getBoundingClientRect().bottom"
        assert page.ask(top) < 500  # seen without scrolling
        figures = page.ask(
            "[...document.querySelectorAll('figure svg')].map(f => "
            "[f.getAttribute('aria-label'), f.textContent, "
            "f.getBoundingClientRect().width, f.getBoundingClientRect().height])"
        )
        assert len(figures) == 5
        for label, text, wide, high in figures:
            assert label and text.strip() and wide > 150 and high > 50
        curves = [text for label, text, *_ in figures if "curves" in label]
        assert "training iterations" in curves[0] and "accuracy on each" in curves[0]
        charts = page.ask(
            "[...document.querySelectorAll('svg text')].map(t => "
            "getComputedStyle(t).fill === getComputedStyle(document.body).color)"
        )
        assert sum(charts) > 50  # letters have the page's colour, light or dark


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    kept = {"kan": 0.7, "mlp": 0.5}
    words = ["model=kan,mlp", "strategy=naive", "seed=range(6)"]
    plant_runs(
        root / "logs",
        *words,
        outcome=lambda c: (0.9, kept[c.model.name] + 0.01 * (c.seed % 3)),
    )
    return write_report(find_runs([root / "logs"]), root / "out")
