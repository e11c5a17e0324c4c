"""The report that is written: its page, its tables, its TensorBoard runs."""

import csv
import io
import re
from html.parser import HTMLParser

import pytest
import torch
from scipy import stats
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from kancl.metrics.score_matrix import forgetting
from kancl.reporting.colours import KAN, MLP
from kancl.reporting.events import TAGS_OF_GROUPS
from kancl.reporting.report import write_report
from kancl.reporting.report.figures import PAGE, differences, stability_plasticity
from kancl.reporting.report.write import page
from kancl.runs import find_runs
from tests.reporting.report.conftest import edit, plant_runs, planted


def outcome(config):
    kept = {"kan": 0.6, "mlp": 0.4}[config.model.name] + 0.01 * config.seed
    if config.model.name == "mlp":
        kept -= 0.005 * (config.seed % 2)
    return (0.9, kept)


WORDS = ["model=kan,mlp", "strategy=naive,ewc", "seed=range(6)"]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    plant_runs(root / "logs", *WORDS, outcome=outcome)
    return write_report(find_runs([root / "logs"]), root / "out")


def rows(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))


class Page(HTMLParser):
    """Every tag and attribute of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.attributes = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs


def test_the_page_says_it_all_and_needs_nothing_else(report):
    text = report.page.read_text()
    parsed = Page(text)
    for word in [
        "Does the KAN forget less?",
        "KAN forgets less under naive, ewc",
        "at matched parameters (1,000 and 1,010)",
        "24 runs: 24 completed.",
        "scenario.n_experiences",
        "not recorded",
    ]:
        assert word in text
    # differences, scatter, two rows of curves, four matrices
    assert parsed.tags.count("svg") == 8
    labels = [value for key, value in parsed.attributes if key == "aria-label"]
    assert sum("accuracy matrix of" in label for label in labels) == 4
    assert not {"script", "link", "iframe", "object", "img"} & set(parsed.tags)
    for key, value in parsed.attributes:
        assert key not in ("src", "action") and not key.startswith("on")
        if key in ("href", "xlink:href"):
            assert value.startswith("#")
    assert "url(http" not in text and "@import" not in text
    ids = re.findall(r' id="(benchmark-\d+|runs|methods)"', text)
    assert ids == ["benchmark-0", "runs", "methods"]


def test_results_are_scipys_of_the_planted_outcomes(report):
    (row,) = [
        row
        for row in rows(report.page.parent / "results.csv")
        if (row["model"], row["strategy"]) == ("kan", "ewc")
        and row["metric"] == "forgetting"
    ]
    values = [forgetting(planted(0.9, 0.6 + 0.01 * seed)) for seed in range(6)]
    interval = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert float(row["mean"]) == pytest.approx(sum(values) / 6)
    assert float(row["low"]) == pytest.approx(interval.low)
    assert float(row["high"]) == pytest.approx(interval.high)
    assert (row["runs"], row["completed"], row["n"]) == ("6", "6", "6")


def test_comparisons_are_scipys_of_the_planted_outcomes(report):
    kan = [0.9 - (0.6 + 0.01 * seed) for seed in range(6)]
    mlp = [0.9 - (0.4 + 0.01 * seed - 0.005 * (seed % 2)) for seed in range(6)]
    expected = stats.ttest_rel(kan, mlp)
    (row,) = [
        row
        for row in rows(report.page.parent / "comparison.csv")
        if row["compared"] == "kan-naive" and row["metric"] == "forgetting"
    ]
    low, high = expected.confidence_interval(0.95)
    assert (float(row["low"]), float(row["high"])) == pytest.approx((low, high))
    assert float(row["p_t"]) == pytest.approx(expected.pvalue, rel=1e-6)
    assert float(row["p_t_holm"]) == pytest.approx(2 * expected.pvalue, rel=1e-6)
    assert float(row["p_permutation"]) == float(row["p_wilcoxon"]) == 2 / 64
    assert (row["finding"], row["pairs"]) == ("lower", "6")


def test_every_run_has_a_row_whatever_became_of_it(plant, tmp_path):
    ends = {0: (0.9, 0.5), 1: "diverged"}
    plant("seed=0,1", outcome=lambda c: ends[c.seed], log_dir=tmp_path / "logs")
    report = write_report(find_runs([tmp_path / "logs"]), tmp_path / "out")
    found = rows(report.page.parent / "runs.csv")
    assert [row["status"] for row in found] == ["completed", "diverged"]
    assert found[0]["folder"].startswith("split_mnist-class/kan-naive/seed0-")
    assert str(tmp_path) not in report.page.read_text()
    assert found[1]["forgetting"] == ""
    text = report.page.read_text()
    assert "2 runs: 1 completed, 1 diverged." in text
    assert "1 of 2 (1 diverged)" in text and "Diverged: the loss is nan" in text


def test_markdown_and_latex_are_the_same_tables(report):
    folder = report.page.parent
    for name in ["results", "comparison", "cost"]:
        lines = (folder / f"{name}.md").read_text().splitlines()
        table = [line for line in lines if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
        latex = (folder / f"{name}.tex").read_text()
        cells = [line.count(" & ") for line in latex.splitlines() if " & " in line]
        assert len(set(cells)) == 1 and cells[0] == table[0].count("|") - 2
        assert len(cells) == len(table) - 1  # no rule of dashes
    assert r"$\pm$" in (folder / "results.tex").read_text()
    assert r"average accuracy \%" in (folder / "results.tex").read_text()


NASTY = "<script>alert(1)</script>\"'&$x_{$ --> {{7*7}} \\input{a} | `b`"


def test_words_of_a_stranger_stay_words(plant, tmp_path):
    folders = plant(
        "strategy=ewc", "seed=0,1", outcome=outcome, log_dir=tmp_path / "logs"
    )
    for folder in folders:
        path = folder / "config.yaml"
        text = path.read_text().replace("dataset: mnist", "dataset: 'NASTY'")
        text = text.replace("name: ewc", "name: 'NASTY'").replace("NASTY", "N@STY")
        path.write_text(text.replace("N@STY", NASTY.replace("'", "''")))
        edit(folder, hidden=[NASTY], status="completed", n_parameters=NASTY)
        (folder / "env.json").write_text('{"commit": "</style><script>"}')
    broken = tmp_path / "logs" / "<img src=x onerror=alert(1)>"
    broken.mkdir()
    (broken / "config.yaml").write_text("[<script>")
    report = write_report(find_runs([tmp_path / "logs"]), tmp_path / "out")
    text = report.page.read_text()
    parsed = Page(text)
    assert "script" not in parsed.tags and "img" not in parsed.tags
    assert not any(key.startswith("on") for key, _ in parsed.attributes)
    assert "&lt;script&gt;alert(1)" in text and "{{7*7}}" in text
    assert (report.page.parent / "results.tex").read_text().count(r"\input") == 0
    markdown = (report.page.parent / "results.md").read_text()
    assert "<script>" not in markdown.replace(r"\<", "")
    inside = {path.resolve() for path in (tmp_path / "out").rglob("*")}
    assert all(tmp_path / "out" in path.parents for path in inside)


def test_a_single_run_of_a_single_model_is_reported_without_a_verdict(plant, tmp_path):
    plant("model=kan", outcome=outcome, log_dir=tmp_path / "logs")
    report = write_report(find_runs([tmp_path / "logs"]), tmp_path / "out")
    text = report.page.read_text()
    assert "no KAN and MLP with the same strategy to compare" in text
    assert [path.name for path in report.tensorboard] == ["kan-naive"]
    assert not (report.tensorboard[0] / "low").exists()  # one seed
    assert not (tmp_path / "out" / "comparison.md").exists()


def test_joint_runs_without_forgetting_are_reported(plant, tmp_path):
    plant("model=kan,mlp", outcome=outcome, log_dir=tmp_path / "logs")
    for path in (tmp_path / "logs").rglob("metrics.csv"):
        kept = [
            line
            for line in path.read_text().splitlines()
            if not re.match(r"(10|20),experience_\d,test_accuracy", line)
        ]
        path.write_text("\n".join(kept) + "\n")
    text = write_report(find_runs([tmp_path / "logs"]), tmp_path / "out").page
    text = text.read_text()
    assert "not comparable" in text and "Forgetting is undefined" in text
    assert "accuracy_matrix.csv differs" in text


def test_the_same_runs_give_the_same_bytes(report, tmp_path):
    again = page(report.runs, report.compared)
    assert again == report.page.read_text()


def _events(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"images": 0})
    accumulator.Reload()
    return accumulator


def _values(accumulator, tag):
    return [event.value for event in accumulator.Scalars(tag)]


def test_tensorboard_has_the_mean_and_the_band_of_every_curve(report):
    folder = {path.name: path for path in report.tensorboard}["mlp-naive"]
    finals = [0.4 + 0.01 * seed - 0.005 * (seed % 2) for seed in range(6)]
    interval = stats.ttest_1samp(finals, 0).confidence_interval(0.95)
    expected = {"mean": sum(finals) / 6, "low": interval.low, "high": interval.high}
    main = _events(folder)
    for end, value in expected.items():
        close = pytest.approx(value, abs=1e-6)
        assert _values(main, f"band/experience_1/{end}")[-1] == close
        beside = main if end == "mean" else _events(folder / end)
        assert _values(beside, "accuracy/experience_1")[-1] == close
    seen = [(0.9 + 2 * value) / 3 for value in finals]
    value = _values(main, "accuracy/seen")[-1]
    assert value == pytest.approx(sum(seen) / 6, abs=1e-6)
    assert main.Tags()["images"] == [
        "mlp-naive/forgetting_curves",
        "mlp-naive/accuracy_matrix",
    ]
    forgot = sum(0.9 - value for value in finals) / 6
    assert _values(main, "final/forgetting") == [pytest.approx(forgot, abs=1e-6)]


def test_a_group_is_at_most_three_runs_and_all_share_the_boundaries(report):
    root = report.tensorboard[0].parent
    runs = [path.parent.relative_to(root).parts for path in root.rglob("events*")]
    groups = ["kan-naive", "kan-ewc", "mlp-naive", "mlp-ewc"]
    assert [path.name for path in report.tensorboard] == groups
    per_group = [(g, *end) for g in groups for end in ((), ("low",), ("high",))]
    assert sorted(runs) == sorted([*per_group, ("boundaries",)])
    steps = [e.step for e in _events(root / "boundaries").Scalars("accuracy/seen")]
    assert sorted({*steps}) == [10, 20]


def test_one_layout_draws_every_group_with_its_band(report):
    layouts = set()
    for folder in report.tensorboard:
        event = _events(folder).Tensors("custom_scalars__config__")[0]
        layouts.add(event.tensor_proto.string_val[0])
    (content,) = layouts  # TensorBoard keeps the first of a title
    (category,) = layout_pb2.Layout.FromString(content).category
    assert category.title == (
        "kan, mlp with naive, ewc on Split MNIST, class-incremental: mean over 6 seeds, "
        "95 % band"
    )
    titles = [chart.title for chart in category.chart]
    seen, curves = "accuracy on the experiences seen", "accuracy on experience "
    assert titles == [f"{curves}3", f"{curves}2", f"{curves}1", seen]
    for folder in report.tensorboard:
        written = set(_events(folder).Tags()["scalars"])
        for chart in category.chart:
            (series,) = chart.margin.series
            assert {series.value, series.lower, series.upper} <= written


def test_the_table_of_hyperparameters_tells_the_groups_apart(report):
    for folder in report.tensorboard:
        content = _events(folder).PluginTagToContent("hparams")
        data = HParamsPluginData.FromString(content["_hparams_/experiment"])
        infos = sorted(
            data.experiment.hparam_infos, key=lambda c: (not c.differs, c.name)
        )
        names = [column.display_name or column.name for column in infos]
        assert names[:4] == ["model", "strategy", "learning rate", "seed"]
        start = HParamsPluginData.FromString(content["_hparams_/session_start_info"])
        values = start.session_start_info.hparams
        told = values["1. model"].string_value, values["2. strategy"].string_value
        assert "-".join(told) == folder.name
        assert values["4. seed"].string_value == "mean of 6 seeds"


def test_every_tag_of_a_group_is_documented(report):
    written = set()
    for folder in [*report.tensorboard, report.tensorboard[0] / "low"]:
        tags = _events(folder).Tags()
        written |= {*tags["scalars"], *tags["images"]}
    shapes = [re.sub("<.*?>", "[^/]+", tag) for tag in TAGS_OF_GROUPS]
    for tag in written:
        plain = re.sub("/(low|high)$", "/mean", tag)
        assert any(re.fullmatch(shape, plain) for shape in shapes), tag


def test_several_benchmarks_have_groups_of_their_own(plant, tmp_path):
    words = ["scenario.incremental=class,task", "seed=0,1"]
    plant(*words, outcome=outcome, log_dir=tmp_path / "logs")
    report = write_report(find_runs([tmp_path / "logs"]), tmp_path / "out")
    assert [path.name for path in report.tensorboard] == [
        "kan-naive-split-mnist-class-incremental",
        "kan-naive-split-mnist-task-incremental",
    ]


def test_spread_of_the_matrices_is_over_seeds(report):
    ((benchmark, _),) = report.compared
    variant = benchmark.variants[0]
    kept = torch.tensor([0.6 + 0.01 * seed for seed in range(6)], dtype=torch.float64)
    assert variant.matrices.std(0)[-1, 0].item() == pytest.approx(kept.std().item())


def test_stability_and_plasticity_shows_every_side_of_every_model(report):
    ((benchmark, _),) = report.compared
    axes = stability_plasticity(benchmark).axes[0]
    large = [line for line in axes.lines if line.get_markersize() == 9]
    found = {
        (line.get_color(), line.get_marker(), *line.get_xydata()[0].round(6))
        for line in large
    }
    means = {}
    for variant in benchmark.variants:
        values = variant.by_seed("forgetting").values()
        means[variant.label] = round(100 * sum(values) / 6, 6)
    assert {(colour, y) for colour, _, _, y in found} == {
        (KAN, means["kan-naive"]),
        (MLP, means["mlp-naive"]),
    }
    assert len({marker for _, marker, *_ in found}) == 2
    assert {x for *_, x, _ in found} == {90.0}


def test_differences_are_filled_where_they_are_shown(report):
    ((_, found),) = report.compared
    forgot, learned, _ = differences(found).axes
    filled = [
        line.get_markerfacecolor() for line in forgot.lines if line.get_marker() == "o"
    ]
    assert filled == [KAN, KAN]
    hollow = [
        line.get_markerfacecolor() for line in learned.lines if line.get_marker() == "o"
    ]
    assert hollow == [PAGE, PAGE]  # learned alike to the digit
    assert [label.get_text() for label in forgot.get_yticklabels()] == [
        "naive, 6 seeds",
        "ewc, 6 seeds",
    ]
