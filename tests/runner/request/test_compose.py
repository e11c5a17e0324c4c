"""Overrides become typed runs, or are refused with the nearest right key or value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from torch import nn

from kancl.config import ConfigError, RunConfig, plain, typed
from kancl.models import KAN, MLP, MODELS
from kancl.runner.check import check
from kancl.runner.registry import GROUPS
from kancl.runner.request.compose import read_folder, read_request

NAMES = [(group, name) for group in GROUPS for name in GROUPS[group].names]


def one(*overrides: str) -> RunConfig:
    (config,) = read_request(overrides, sweep=False).configs
    return config


def test_the_main_job_of_the_issue_is_understood() -> None:
    config = one(
        *"scenario=split_mnist scenario.incremental=class model=mlp model.hidden=[400,400] "
        "strategy=joint scenario.normalize=none training.iterations=10000 "
        "training.batch_size=128 optimizer=adam optimizer.lr=1e-3".split()
    )
    assert config.model.name == "mlp" and config.model.options["hidden"] == (400, 400)
    assert config.strategy.name == "joint" and config.optimizer.options["lr"] == 1e-3
    assert config.training.iterations == 10000 and config.training.batch_size == 128
    assert config.scenario.options["incremental"] == "class"


@pytest.mark.parametrize(("group", "name"), NAMES)
def test_each_name_builds(group: str, name: str, tmp_path: Path) -> None:
    choice = f"{group}={name}"
    small = ["model.hidden=[3]"]
    if name != "gaussian_peaks":  # a regression, which has no images to count
        small += ["scenario.train_samples=40", "scenario.test_samples=10"]
        small += ["scenario.validation=0.1"]
    if name == "arrays":
        y = np.arange(50) % 10
        x = np.random.default_rng(0).random((50, 4))
        np.savez(tmp_path / "own.npz", x_train=x, y_train=y, x_test=x, y_test=y)
        small += [f"scenario.file={tmp_path}/own.npz"]
    config = one(choice, *small)
    assert getattr(config, group).name == name
    check([config])


def test_sweeps_are_products_and_the_last_override_wins() -> None:
    request = read_request(
        ["model=kan,mlp", "seed=range(3)", "seed=1,2", "training.epochs=choice(1,2)"],
        sweep=True,
    )
    made = [(c.model.name, c.seed, c.training.epochs) for c in request.configs]
    assert made == [(m, s, e) for m in ("kan", "mlp") for s in (1, 2) for e in (1, 2)]


def test_glob_sweeps_over_all_names() -> None:
    request = read_request(["optimizer=glob(*)"], sweep=True)
    assert {c.optimizer.name for c in request.configs} == set(
        GROUPS["optimizer"].builders
    )


def test_in_a_sweep_a_key_applies_to_those_that_know_it() -> None:
    request = read_request(
        ["strategy=naive,ewc", "strategy.ewc_lambda=1,10"], sweep=True
    )
    found = [(c.strategy.name, c.strategy.options) for c in request.configs]
    assert [name for name, _ in found] == ["naive", "ewc", "ewc"]  # no naive run twice
    assert [options["ewc_lambda"] for _, options in found[1:]] == [1.0, 10.0]


def test_what_the_reference_is_matched_by() -> None:
    config = one("model=mlp", "match=params", "model.grid_size=9", "model.hidden=[7]")
    assert config.match_to.options["grid_size"] == 9
    assert config.match_to.options["hidden"] == config.model.options["hidden"] == (7,)
    config = one("model=mlp", "match=params", "match_to.hidden=[5]")
    assert config.match_to.options["hidden"] == (5,)
    assert config.model.options["hidden"] == (400, 400)
    config = one(
        "match=flops", "match_to=mlp", "model.hidden=[9]", "match_to.dropout=.5"
    )
    assert config.match_to.name == "mlp" and config.match_to.options["dropout"] == 0.5
    assert one("match_to=mlp").match_to.options == {}  # nothing is matched


REFUSED = [
    (["modle=mlp"], "modle is not a key; nearest: model"),
    (["model=mpl"], "there is no model=mpl; nearest: mlp"),
    (["strategy=ewcc"], "there is no strategy=ewcc; nearest: ewc"),
    (["scenario=split_minst"], "nearest: split_mnist"),
    (["optimizer=admw"], "nearest: adamw"),
    (["model=7"], "there is no model=7"),
    (
        ["model.hiden=[5]"],
        "model.hiden is not a key of model=kan; nearest: model.hidden",
    ),
    (["training.epoch=3"], "nearest: training.epochs"),
    (["traning.epochs=3"], "nearest: training.epochs"),
    (["batch_size=3"], "nearest: training.batch_size"),
    (["lr=3"], "lr is not a key"),
    (["scenario.seed=3"], "scenario.seed is not a key of scenario=split_mnist"),
    (["strategy.ewc_lambda=3"], "of strategy=naive, but of strategy=ewc"),
    (["model.dropout=.5"], "not a key of model=kan, but of model=mlp"),
    (["training.epochs=two"], "training.epochs takes int, not two"),
    (["training.epochs=1.5"], "nearest: training.epochs=2"),
    (["training.epochs=0"], "training.epochs must be at least 1, not 0"),
    (["training.batch_size=null"], "training.batch_size takes int, not null"),
    (["training={epochs:3}"], "is refused; nearest: training.epochs=3"),
    (["model.hidden=64"], "nearest: 'model.hidden=[64]'"),
    (["model.hidden=[a]"], "model.hidden takes list of int >= 1, not [a]"),
    (["optimizer.lr=fast"], "optimizer.lr takes float, not fast"),
    (["optimizer.lr=nan"], "optimizer.lr takes float, not nan"),
    (["optimizer.momentum=.9"], "of optimizer=adam, but of optimizer=sgd"),
    (["scenario.incremental=tsk"], "nearest: scenario.incremental=task"),
    (["scenario.normalize=standrd"], "nearest: scenario.normalize=standard"),
    (["scenario.head=mutli"], "nearest: scenario.head=multi"),
    (["match=param"], "nearest: match=params"),
    (["match_to=mpl"], "there is no match_to=mpl; nearest: mlp"),
    (["device=gpu"], "nearest: device=cuda"),
    (["seed=-1"], "seed must be at least 0, not -1"),
    (["seed=1,2"], "seed=1,2 asks for several runs; add -m"),
    (["overwrite=1"], "nearest: overwrite=true"),
    (["model.name=mlp"], "model.name cannot be set; nearest: model=mlp"),
    (["model._target_=os.system"], "model._target_ is not a key"),
    (["+_target_=os.system"], "_target_ is not a key"),
    (["training.epochs={_target_:os.system}"], "_target_"),
    (["model@x=kan"], "is refused"),
    (["~model"], "is refused"),
    (["hydra.run.dir=x"], "hydra.run.dir is not a key"),
    (["hydra.callbacks.x._target_=os.system"], "is not a key"),
    (["hydra/sweeper=basic"], "hydra/launcher"),
    (["hydra.launcher._target_=x"], "nearest: hydra/launcher"),
    (["seed=[1,"], "cannot read 'seed=[1,'"),
    (["seed"], "seed has no value; kancl list seed"),
    (["training.epochs=${oops}"], "oops"),
    (["seed=interval(0,1)"], "name the values"),
]


@pytest.mark.parametrize(("overrides", "says"), REFUSED)
def test_what_is_wrong_is_named_with_the_nearest_right_one(
    overrides: list[str], says: str
) -> None:
    with pytest.raises(ConfigError) as error:
        read_request(overrides, sweep=False)
    assert says in str(error.value)
    assert len(str(error.value).split("\n")) <= 2


CANNOT_WORK = [
    (["scenario.n_experiences=3"], "n_experiences=3"),
    (["log_dir=/dev/null/runs"], "log_dir=/dev/null/runs: /dev/null is a file"),
    (["scenario.n_classes=1"], "scenario.n_classes=1 does not go evenly into 5"),
    (["scenario.class_order=[0,1]"], "nearest: scenario.n_experiences=2 "),
    (["scenario.classes=[[0],[]]"], "scenario.classes: experience 2 has no classes"),
    (["scenario.validation=1.5"], "scenario.validation must be at most 1, not 1.5"),
    (["scenario.validation=1"], "scenario.validation=1.0 must be a share"),
    (["scenario.head=multi"], "nearest: scenario.head=single"),
    (["scenario.head=single", "scenario.incremental=task"], "scenario.head=multi"),
    (["model=mlp", "model.dropout=1.5"], "dropout"),
    (["model.degree=0"], "degree"),
    (["optimizer.lr=-1"], "-1"),
    (["strategy=ewc", "strategy.ewc_lambda=-1"], "ewc_lambda"),
    (["strategy=der", "scenario.incremental=task"], "strategy=der"),
    (["training.lr_gamma=.5", "training.iterations=5"], "training.lr_gamma"),
    (["training.lr_gamma=.5", "optimizer.schedule=linear"], "optimizer.schedule"),
    (["model=mlp", "strategy=hard_mask"], "use model=kan, or strategy=ewc"),
    (["model=kan_local", "model.input_grid=quantile"], "a grid of size 1 has none"),
    (["model.input_grid=range", "model.input_grid_range=[0,1]"], "set one of the two"),
    (["model.input_grid=ranges"], "nearest: model.input_grid=range"),
    (["model.input_grid=range", "strategy=grow_grids"], "use strategy.off_grid=1"),
    (["strategy=gram+grow_grids"], "second moments of old bases"),
    (["strategy=ewc_batched+grow_grids"], "use strategy=ewc, or leave grow_grids"),
    (["strategy=gram_ewc+grow_grids"], "leave grow_grids out"),
    (
        ["strategy=grow_grids+occupancy", "scenario.head=growing"],
        "head=single",
    ),
    (["strategy=grow_grids", "strategy.off_grid=2"], "off_grid must be at most 1"),
    (["training.lr_gamma=-1"], "training.lr_gamma must be above 0, not -1.0"),
    (["match=params", "model=mlp", "match_to.hidden=[1]", "match_to.degree=9"], "9"),
    (["data_dir=/nowhere/at/all"], "/nowhere/at/all"),
]


@pytest.mark.parametrize(("overrides", "says"), CANNOT_WORK)
def test_what_cannot_work_is_refused_before_any_run(
    overrides: list[str], says: str
) -> None:
    samples = ["scenario.train_samples=40", "scenario.test_samples=10"]
    with pytest.raises(ConfigError) as error:
        check([one(*samples), one(*samples, *overrides)])
    assert says in str(error.value)


def deep(
    in_features: int,
    n_outputs: int,
    *,
    input_range: tuple[float, float] = (0, 1),
    hidden: Sequence[int] = (3, 3),
    twice: bool = False,
) -> nn.Module:
    """Somebody's own model."""
    return MLP([in_features, *hidden * (1 + twice), n_outputs])


@pytest.fixture
def own_model() -> Iterator[None]:
    MODELS["deep"] = deep
    yield
    del MODELS["deep"]


def test_a_new_model_is_a_function_and_a_line(own_model: None) -> None:
    config = one("model=deep", "model.twice=true", "match=params", "model.hidden=[2,2]")
    assert config.model.options == {"hidden": (2, 2), "twice": True}
    with pytest.raises(ConfigError, match="nearest: model.twice"):
        one("model=deep", "model.twise=true")
    assert "Somebody's" in GROUPS["model"].summary("deep")
    assert MODELS["kan"] is not KAN


def test_a_folder_is_read_back_and_single_keys_change(tmp_path: Path) -> None:
    config = one("model=mlp", "match=params", "model.grid_size=9")
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(plain(config)))
    assert read_folder(tmp_path, []) == config
    changed = read_folder(tmp_path, ["seed=5", "model.dropout=.5", "match_to.degree=2"])
    assert changed.seed == 5 and changed.model.options["dropout"] == 0.5
    assert changed.match_to.options["degree"] == 2
    assert changed.match_to.options["grid_size"] == 9
    for wrong, says in [
        ("model=kan", "--from keeps its model"),
        ("sed=3", "nearest: seed"),
        ("seed=1,2", "several runs"),
    ]:
        with pytest.raises(ConfigError, match=says):
            read_folder(tmp_path, [wrong])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "{scenario: mnist, strategy: naive, optimizer: adam, model: {name: kan, "
            "_target_: os.system}}",
            "model._target_ is not a key",
        ),
        ("!!python/object/apply:os.system [ls]", "holds no keys"),
        ("model: !!python/object/apply:os.system [ls]", "is no YAML"),
        ("a: [", "is no YAML"),
        ("- 1", "holds no keys"),
        ("model: {name: kan}", "scenario needs a name"),
    ],
)
def test_a_strangers_config_runs_no_code(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=says):
        read_folder(tmp_path, [])


def test_a_folder_without_config_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--from takes a run folder"):
        read_folder(tmp_path, [])


def test_a_preset_of_a_users_own_is_a_file(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "preset_of: mlp\nhelp: narrow\nhidden: [5]\n"
        "with: {optimizer: {lr: 0.5}, model=mine: {training.epochs: 7}}\n"
    )
    config = one(f"model={mine}", "model.dropout=0.5", "training.epochs=3")
    assert (config.model.name, config.model.builder) == ("mine", "mlp")
    assert config.model.options["hidden"] == (5,)
    assert config.model.options["dropout"] == 0.5
    assert config.optimizer.options["lr"] == 0.5 and config.training.epochs == 3
    assert one(f"model={mine}", "optimizer.lr=2").optimizer.options["lr"] == 2
    assert one(f"model={mine}", "scenario=gaussian_peaks").model.options["hidden"] == (
        5,
    )
    assert one(f"model={mine}").training.epochs == 7
    matched = one(f"match_to={mine}", "match=params")
    assert matched.match_to.options["hidden"] == (5,)
    assert matched.optimizer.options["lr"] == 0.001  # no settings of the reference
    models = read_request([f"model={mine},kan"], sweep=True).configs
    assert [c.model.name for c in models] == ["mine", "kan"]
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(plain(config)))
    mine.unlink()
    assert replace(read_folder(tmp_path, []), log_dir="logs") == config
    check([config])


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        (
            "mine",
            "preset_of: mlp\n_target_: os.system",
            "model._target_ is not a key of",
        ),
        ("mine", "preset_of: mlp\nhiden: [5]", "nearest: model.hidden"),
        ("mine", "preset_of: mpl", "there is no model=mpl; nearest: mlp"),
        ("mine", "hidden: [5]", "does not say preset_of"),
        ("mine", "preset_of: mlp\nwith: {optimizer.rl: 1}", "nearest: optimizer.lr"),
        ("mine", "preset_of: mlp\nwith: 3", "with takes keys"),
        ("mine", "preset_of: mlp\nhidden: &a [1]\ndropout: *a", "a YAML alias"),
        ("mine", "preset_of: mlp\nhidden: ${oc.env:HOME}", "is not resolved"),
        ("mlp", "preset_of: mlp", "there is a model=mlp; rename it"),
        ("m!ne", "preset_of: mlp", "letters, digits"),
    ],
)
def test_a_wrong_preset_is_refused(
    tmp_path: Path, name: str, text: str, says: str
) -> None:
    (tmp_path / f"{name}.yaml").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(says)):
        one(f"model='{tmp_path}/{name}.yaml'")
    with pytest.raises(ConfigError, match="nowhere.yaml cannot be read"):
        one("model=nowhere.yaml")


def test_a_sum_of_strategies_has_the_keys_of_all() -> None:
    assert one("strategy=replay+ewc") == one("strategy=ewc+replay")
    config = one("strategy=ewc+replay", "strategy.mem_size=7", "strategy.ewc_lambda=2")
    assert config.strategy.name == config.strategy.builder == "ewc+replay"
    assert config.strategy.options["mem_size"] == 7
    assert typed(plain(config), GROUPS) == config
    request = read_request(["strategy=naive,ewc+replay,si+der"], sweep=True)
    assert [c.strategy.name for c in request.configs] == [
        "naive",
        "ewc+replay",
        "der+si",
    ]
    config = one("strategy=lwf+der", "strategy.lwf.alpha=3", "strategy.der.alpha=4")
    assert config.strategy.options["lwf.alpha"] == 3.0
    assert plain(config)["strategy"]["der"] == {"alpha": 4.0}
    assert typed(plain(config), GROUPS) == config
    for words, says in [
        (["strategy=ewc+repaly"], "there is no strategy=ewc+repaly"),
        (["strategy=lwf+der", "strategy.alpha=1"], "strategy.alpha is not a key of"),
    ]:
        with pytest.raises(ConfigError, match=re.escape(says)):
            one(*words)
