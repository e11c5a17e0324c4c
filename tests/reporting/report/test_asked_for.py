"""The report is of what was asked for, and folds away what was tried on fewer seeds."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import kancl
from kancl.cli import main
from kancl.reporting.report import parts
from kancl.reporting.variants import benchmarks
from kancl.reporting.verdicts import compare
from kancl.runner.request.compose import read_request
from kancl.runs import asked_for, find_runs, select_runs
from tests.reporting.report.conftest import plant_runs, write


def outcome(config):
    kept = 0.5 + 0.01 * config.seed
    if config.model.name == "kan":
        kept += 0.1 + 0.002 * (config.seed % 3)
    return (0.9, kept)


@pytest.fixture
def logs(tmp_path, monkeypatch):
    """A comparison ``first-look`` of 6 seeds among trials of other settings."""
    monkeypatch.chdir(tmp_path)
    logs = Path("logs")
    words = ["model=kan,mlp", "strategy=naive"]
    compared = plant_runs(logs, *words, "seed=range(6)", outcome=outcome)
    plant_runs(logs, *words, "optimizer.lr=0.01,0.1", "seed=0", outcome=outcome)
    plant_runs(logs, "scenario.train_samples=600", "seed=0", outcome=outcome)
    names = [str(folder.relative_to(logs)) for folder in compared]
    folder = logs / "comparisons" / "first-look"
    folder.mkdir(parents=True)
    (folder / "runs.json").write_text(json.dumps({"runs": names}))
    return logs


def said(capsys, *words):
    assert main(["report", *words, "-o", "out"]) == 0
    return capsys.readouterr().out, Path("out/report.html").read_text()


def test_a_comparison_is_reported_alone_by_its_folder_or_name(logs, capsys):
    by_folder, by_name = (
        find_runs(asked_for([word])[0])
        for word in ("logs/comparisons/first-look", "first-look")
    )
    assert len(by_folder) == 12
    assert [run.name for run in by_folder] == [run.name for run in by_name]
    out, page = said(capsys, "first-look")
    assert "Split MNIST, class-incremental: KAN forgets less" in out
    assert "12 runs, 0 without" in out and "Trials" not in page
    assert '<p class="asked">first-look</p>' in page
    # its groups are in TensorBoard already
    assert f"tensorboard --logdir {logs}/comparisons/first-look --load_fast" in out
    assert not Path("out/tensorboard").exists()


def test_runs_are_asked_for_by_their_name(logs, capsys):
    def called(name, seed):
        words = [f"seed={seed}", "scenario.n_experiences=3", "training.epochs=2"]
        config = replace(read_request(words, sweep=False).configs[0], name=name)
        return write(config, outcome(config))

    wide, narrow = [called("wide", 0), called("wide", 1)], called("narrow", 2)
    called("wider", 3)
    assert asked_for(["wide"])[0] == sorted(wide)
    assert asked_for([narrow.name])[0] == asked_for(["narrow"])[0]
    assert kancl.load("narrow").folder == narrow
    with pytest.raises(ValueError, match="wide names 2 runs; one of them: logs/split"):
        kancl.load("wide")
    assert main(["compare", "wide", "narrow"]) == 0
    assert "next: kancl report wide narrow" in capsys.readouterr().out
    main(["status", "wide"])
    said = capsys.readouterr().out
    assert wide[0].name in said and "2 runs:" in said
    assert main(["status", "wid"]) == 2
    assert "there is no folder wid" in capsys.readouterr().err
    Path("narrow").mkdir()  # what is there goes before a name
    assert asked_for(["narrow"])[0] == [Path("narrow")]


def test_conditions_choose_runs(logs, capsys):
    paths, conditions = asked_for(["logs", "model=kan", "optimizer.lr=1e-2,0.1"])
    runs = select_runs(find_runs(paths), conditions)
    assert {(r.name_of("model"), r.config["optimizer"]["lr"]) for r in runs} == {
        ("kan", 0.01),
        ("kan", 0.1),
    }
    assert main(["export", "first-look", "seed=0", "--to", "runs.csv"]) == 0
    assert "2 runs: runs.csv" in capsys.readouterr().out


@pytest.mark.parametrize(
    "word, why",
    [
        ("lr=0.01", "lr= is no key of these runs; nearest: optimizer.lr"),
        ("model=kann", "model=kann leaves no run; nearest: kan"),
        ("seconds-look", "there is no seconds-look"),
    ],
)
def test_what_nothing_is_of_is_refused(logs, capsys, word, why):
    assert main(["report", *["logs"] * ("=" in word), word]) == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize(
    "text, why",
    [
        ('{"runs": ["../../elsewhere"]}', "names a folder outside"),
        ('{"runs": 3}', "is no list of runs"),
        ('{"runs": ["gone"]}', "none of the 1 runs"),
    ],
)
def test_a_list_of_a_strangers_making_leads_nowhere(logs, capsys, text, why):
    (logs / "comparisons/first-look/runs.json").write_text(text)
    assert main(["report", "first-look"]) == 2
    assert why in capsys.readouterr().err


def test_settings_of_fewer_seeds_fold_away_with_what_is_said_of_them(logs, capsys):
    out, page = said(capsys)
    assert "KAN forgets less: " in out and "(trials: 4 other settings, on " in out
    before, fold, after = page.partition("<summary>Trials: 4 other settings")
    assert fold and after.index("too few seeds to tell") < after.index("</details>")
    assert "lr=0.1" not in before and "lr=0.1" in after
    assert "train_samples=600" in page and "null" not in page.partition("<dl>")[0]


def test_every_setting_lies_open_where_none_has_more_seeds(tmp_path):
    words = ["model=kan,mlp", "optimizer.lr=0.01,0.1", "seed=0,1"]
    plant_runs(tmp_path, *words, outcome=outcome)
    (benchmark,) = benchmarks(find_runs([tmp_path]))
    (part,) = parts(benchmark, compare(benchmark))
    assert len(part.benchmark.variants) == 4 and len(part.comparisons) == 2


def test_a_setting_that_is_not_set_is_in_no_title(tmp_path):
    for words in (["training.iterations=20"], []):
        plant_runs(tmp_path, "model=kan", *words, "seed=0", outcome=outcome)
    plant_runs(tmp_path, "scenario.train_samples=60", "seed=0", outcome=outcome)
    groups = benchmarks(find_runs([tmp_path]))
    assert [group.title for group in groups] == [
        "Split MNIST, class-incremental",
        "Split MNIST, class-incremental (train_samples=60)",
    ]
    labels = {variant.label for variant in groups[0].variants}
    assert labels == {"kan-naive", "kan-naive (iterations=20)"}
