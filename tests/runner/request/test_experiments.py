"""Every experiment can be read off one screen, composes, builds, and runs cut to seconds."""

from __future__ import annotations

import pytest
import yaml
from rich.console import Console

from kancl.config import ConfigError, config_dir
from kancl.config.values import shown
from kancl.runner.build import build
from kancl.runner.request.compose import read_request
from kancl.runner.request.experiments import experiment_names, read_experiment
from kancl.runner.run import run

SMALL = (
    "scenario.train_samples=18",
    "scenario.test_samples=9",
    "training.iterations=1",
    "training.batch_size=8",
    "evaluation.samples=0",
    "tensorboard=none",
    "device=cpu",
    "seed=0",
)
NAMES = experiment_names()


@pytest.mark.parametrize("name", NAMES)
def test_it_begins_with_its_question_and_its_control_on_one_screen(name):
    text = (config_dir() / "experiment" / f"{name}.yaml").read_text()
    assert len(text.partition("variants:")[0].splitlines()) <= 24
    assert len(text.splitlines()) <= 160  # where each line was tuned by itself
    experiment = read_experiment(name)
    assert experiment.question.endswith("?") and len(experiment.control) > 60
    assert len(experiment.variants) >= 2
    seeds = [word for word in experiment.shared if word.startswith("seed=")]
    assert seeds  # said, and the same for all variants
    assert not any(word.startswith("seed=") for s in experiment.variants for word in s)


@pytest.mark.proof
@pytest.mark.parametrize("name", NAMES)
def test_it_composes_and_a_run_of_each_model_ends_well(name, tmp_path):
    words = [f"experiment={name}", *SMALL, f"log_dir='{tmp_path}'"]
    configs = read_request(words, sweep=False).configs
    assert {config.seed for config in configs} == {0}
    assert {config.model.name for config in configs} >= {"mlp"}
    first = {}
    for config in configs:
        kind = config.model.name, config.model.options.get("activation")
        first.setdefault(kind, config)
    assert len(first) >= 2
    for config in first.values():
        summary = run(config, console=Console(quiet=True))
        assert summary["status"] == "completed", summary["error"]


@pytest.mark.parametrize("name", NAMES)
def test_every_line_of_it_is_a_setting_and_both_kinds_of_model_meet(name):
    experiment = read_experiment(name)
    configs = []
    for variant in experiment.variants:
        words = [_first_value(word) for word in (*experiment.shared, *variant)]
        configs += read_request(words, sweep=True).configs
    assert "mlp" in {config.model.name for config in configs}


def matches_parameters(name):
    experiment = read_experiment(name)
    return any(
        "match=params" in words for words in [experiment.shared, *experiment.variants]
    )


@pytest.mark.parametrize("name", list(filter(matches_parameters, NAMES)))
def test_what_is_matched_has_as_many_parameters_as_a_variant_that_is_run(name):
    configs = read_request([f"experiment={name}", *SMALL], sweep=False).configs
    sizes = {}
    for c in configs:
        if c.match in ("none", "params"):
            key = (repr(c.scenario), c.head, repr(c.model), c.match, repr(c.match_to))
            if key not in sizes:
                sizes[key] = build(c)
    run_as_they_are = {
        (p.benchmark.info.name, p.benchmark.info.incremental, p.size)
        for p in sizes.values()
        if p.reference is None
    }
    matched = [p for p in sizes.values() if p.reference is not None]
    assert matched
    for p in matched:
        info = p.benchmark.info
        assert (info.name, info.incremental, p.reference) in run_as_they_are
        off = abs(p.size.n_parameters - p.reference.n_parameters)
        assert off < 0.02 * p.reference.n_parameters, (p.size, p.reference)


def _first_value(word):
    """An override with the first of its values alone: the product of all is large."""
    key, _, value = word.partition("=")
    if value.startswith("range"):
        return f"{key}=0"
    if value.startswith("[") or key in ("model", "strategy"):  # which know other keys
        return word
    return f"{key}={value.split(',')[0]}"


def test_a_run_command_overrides_all_variants_and_no_run_is_made_twice():
    words = ["experiment=inputs-off-the-grid", "scenario.incremental=class"]
    configs = read_request([*words, "seed=range(2)"], sweep=False).configs
    assert len(configs) == 4 * 2
    assert {c.scenario.options["n_classes"] for c in configs} == {9}
    kans = read_request([*words, "seed=0", "model=kan"], sweep=False).configs
    grids = {c.model.options["input_grid_range"] for c in kans}
    assert grids == {None, (-1, 1)} and {c.model.name for c in kans} == {"kan"}


def test_an_experiment_may_be_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "shared: [model=mlp]\nvariants: [[strategy=naive], [strategy=joint]]\n"
    )
    configs = read_request([f"experiment={path}"], sweep=False).configs
    assert [c.strategy.name for c in configs] == ["naive", "joint"]


def test_it_may_be_nested_as_a_configuration_is(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "shared:\n  training: {epochs: 2}\n  model: {name: mlp, hidden: [4, 3]}\n"
        "  match_to: {name: mlp}\n  data_dir: null\n  optimizer.lr: 1e-3,1e-2\n"
        "variants:\n  - {strategy: naive, seed: range(2)}\n  - [strategy=joint]\n"
    )
    assert read_experiment(path).shared == (
        "training.epochs=2",
        "model=mlp",
        "model.hidden=[4,3]",
        "match_to=mlp",
        "data_dir=null",
        "optimizer.lr=1e-3,1e-2",
    )
    configs = read_request([f"experiment={path}", "training.epochs=3"], False).configs
    made = [(c.strategy.name, c.seed) for c in configs]
    assert made == [("naive", 0), ("naive", 1)] * 2 + [("joint", 0)] * 2
    assert {c.training.epochs for c in configs} == {3} and len(configs) == 6
    assert {c.model.options["hidden"] for c in configs} == {(4, 3)}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("variants: [[model=kan]]\nshare: []\n", "share is not a key; nearest: shared"),
        ("shared: [model=kan]\n", "it has no variants"),
        ("variants: [model=kan]\n", "or a list of overrides"),
        ("variants: [[modle=kan]]\n", "modle is not a key; nearest: model"),
        ("variants: [\n", "is no YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_the_nearest_right_key(tmp_path, text, says):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        read_request([f"experiment={path}"], sweep=False)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["experiment=inputs-off-grid"], "nearest: inputs-off-the-grid"),
        (["experiment=no.yaml"], "takes a name or a file"),
        ([f"experiment={name}" for name in NAMES[:2]], "one experiment at a time"),
        (["experiment=inputs-off-the-grid", "sed=1", "seed=0"], "nearest: seed"),
    ],
)
def test_what_is_no_experiment_is_refused(words, says):
    with pytest.raises(ConfigError, match=says):
        read_request(words, sweep=False)


@pytest.mark.parametrize(
    "word",
    [
        "log_dir=/elsewhere",
        "overwrite=true",
        "data_dir=/etc",
        "loggers=[wandb]",
        "hydra/launcher=joblib",
        "log_dir=a,b",
    ],
)
def test_a_file_does_not_say_where_results_go_or_what_they_replace(tmp_path, word):
    path = tmp_path / "theirs.yaml"
    path.write_text(yaml.safe_dump({"shared": [word], "variants": [["model=mlp"]]}))
    with pytest.raises(ConfigError, match="refused in an experiment's file; type it"):
        read_request([f"experiment={path}"], sweep=False)
    if "," not in word and "hydra" not in word:  # typed, it is all right
        path.write_text(yaml.safe_dump({"variants": [["model=mlp"]]}))
        (config,) = read_request([f"experiment={path}", word], sweep=False).configs
        key, _, value = word.partition("=")
        assert shown(getattr(config, key)) == value
        preset = tmp_path / "small.yaml"
        preset.write_text(f"preset_of: mlp\nwith: {{{key}: {value}}}\n")
        with pytest.raises(ConfigError, match=f"{key} is refused in a preset; type it"):
            read_request([f"model={preset}"], sweep=False)


def test_a_file_reads_nothing_of_the_environment(tmp_path):
    path = tmp_path / "theirs.yaml"
    path.write_text("shared: ['data_dir=${oc.env:PATH}']\nvariants: [[model=mlp]]\n")
    with pytest.raises(ConfigError, match="not resolved"):
        read_request([f"experiment={path}"], sweep=False)
