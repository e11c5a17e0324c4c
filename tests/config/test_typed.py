"""A plain mapping becomes a typed configuration and comes back the same."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

import pytest
from omegaconf import OmegaConf

import kancl.config
from kancl.config import (
    ConfigError,
    Group,
    config_dir,
    fingerprint,
    plain,
    typed,
)
from kancl.config.schema import FIXED, SECTIONS
from kancl.config.typed import all_options


def split(*, seed: int = 0, kind: Literal["class", "task"] = "class") -> None:
    """Split it."""


def spline(
    n_in: int, *, hidden: Sequence[int] = (64,), grid: int = 5, scale: float = 1
) -> None:
    """Splines."""


def dense(n_in: int, *, hidden: Sequence[int] = (400, 400)) -> None: ...


def naive(setup: object) -> None: ...


def adam(parameters: object, *, lr: float = 1e-3) -> None: ...


GROUPS = {
    "scenario": Group("scenario", {"split": split}, {"seed"}, presets=dict),
    "model": Group("model", {"kan": spline, "mlp": dense}, presets=dict),
    "strategy": Group("strategy", {"naive": naive}, presets=dict),
    "optimizer": Group("optimizer", {"adam": adam}, presets=dict),
}
NAMES = {"scenario": "split", "model": "kan", "strategy": "naive", "optimizer": "adam"}


def mapping(**changes: Any) -> dict[str, Any]:
    return {**{key: {"name": name} for key, name in NAMES.items()}, **changes}


def test_left_out_keys_take_the_defaults_of_signatures_and_dataclasses() -> None:
    config = typed(mapping(), GROUPS)
    assert config.model.options == {"hidden": (64,), "grid": 5, "scale": 1.0}
    assert config.scenario.options == {"kind": "class"}
    assert config.training.batch_size == 128 and config.head == "auto"


def test_plain_and_typed_are_inverse_through_yaml() -> None:
    config = typed(
        mapping(
            model={"name": "mlp", "hidden": [10, 20]},
            scenario={"name": "split", "head": "growing"},
            optimizer={"name": "adam", "lr": 1e-5, "reset_each_experience": True},
            match="params",
            match_to={"name": "kan", "grid": 9},
            training={"iterations": 7},
            data_dir="a b: c",
        ),
        GROUPS,
    )
    text = OmegaConf.to_yaml(OmegaConf.create(plain(config)))
    again = typed(OmegaConf.to_container(OmegaConf.create(text)), GROUPS)  # type: ignore
    assert again == config and fingerprint(again) == fingerprint(config)
    assert config.match_to.options["grid"] == 9 and config.head == "growing"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"modle": 1}, "modle is not a key; nearest: model"),
        ({"model": {"name": "kan", "hiden": [1]}}, "nearest: model.hidden"),
        ({"model": {"name": "kna"}}, "there is no model=kna; nearest: kan"),
        ({"model": {"hidden": [1]}}, "model needs a name"),
        ({"model": 3}, "there is no model=3"),
        ({"model": {"name": ["kan"]}}, "there is no model"),
        ({"training": {"epoch": 1}}, "nearest: training.epochs"),
        ({"training": {"epochs": 0}}, "training.epochs must be at least 1, not 0"),
        ({"training": {"epochs": "two"}}, "training.epochs takes int, not two"),
        ({"seed": -1}, "seed must be at least 0, not -1"),
        ({"match": "param"}, "nearest: match=params"),
        ({"match_to": "mpl"}, "there is no match_to=mpl; nearest: mlp"),
        ({"scenario": {"name": "split", "seed": 3}}, "scenario.seed is not a key"),
        ({"scenario": {"name": "split", "kind": "tsk"}}, "scenario.kind=task"),
        ({"_target_": "os.system"}, "_target_ is not a key"),
        ({"model": {"name": "kan", "_target_": "x"}}, "model._target_ is not a key"),
        ({"training": {"epochs": [{"_target_": "x"}]}}, "training.epochs takes int"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        typed(mapping(**changes), GROUPS)
    assert says in str(error.value)


def test_hash_tells_runs_apart_but_not_where_they_are_made() -> None:
    base = fingerprint(typed(mapping(), GROUPS))
    for changes in (
        {"device": "cpu"},
        {"threads": 3},
        {"data_dir": "x"},
        {"log_dir": "y"},
        {"overwrite": True},
        {"keep_model": True},
        {"training": {"eval_batch_size": 3}},
        {"match_to": {"name": "kan", "grid": 7}},
        {"model": {"name": "kan", "hidden": [64.0]}},
    ):
        assert fingerprint(typed(mapping(**changes), GROUPS)) == base, changes
    for changes in (
        {"seed": 1},
        {"training": {"epochs": 2}},
        {"model": {"name": "kan", "grid": 6}},
        {"match": "params"},
    ):
        assert fingerprint(typed(mapping(**changes), GROUPS)) != base, changes


def test_keys_are_those_of_the_chosen_builders() -> None:
    found = all_options(GROUPS, {**NAMES, "model": "mlp", "match_to": "kan"})
    assert {"model.hidden", "match_to.grid", "scenario.head", "seed"} <= found.keys()
    assert "model.grid" not in found and "scenario.seed" not in found


def test_every_fixed_key_has_its_default_and_its_meaning_in_one_dataclass() -> None:
    config = typed(mapping(), GROUPS)
    for key, option in FIXED.items():
        assert option.help and option.kind, key
        assert attrgetter(option.name)(config) == option.default, key
    assert {key.partition(".")[0] for key in FIXED if "." in key} - {*GROUPS} == {
        *SECTIONS
    }
    assert FIXED["training.iterations"].kind == "int >= 1 or null"
    assert FIXED["threads"].kind == "int >= 1 and <= 1024 or null"


def test_the_top_configuration_makes_choices_only() -> None:
    chosen = OmegaConf.to_container(OmegaConf.load(config_dir() / "config.yaml"))
    assert isinstance(chosen, dict) and chosen.keys() == GROUPS.keys()


def test_a_preset_of_a_users_own_is_written_down_whole() -> None:
    mine = {"name": "mine", "preset_of": "kan", "grid": 9}
    config = typed(mapping(model=mine), GROUPS)
    assert config.model.options == {"hidden": (64,), "grid": 9, "scale": 1.0}
    assert (config.model.name, config.model.builder) == ("mine", "kan")
    assert typed(plain(config), GROUPS) == config
    for name, preset_of, says in [
        ("mlp", "kan", "model=mlp is no preset of kan"),
        ("../mine", "kan", "there is no model=../mine"),
        ("mine", "kna", "there is no model=kna; nearest: kan"),
        ("mine", 3, "there is no model=3"),
    ]:
        with pytest.raises(ConfigError, match=says):
            typed(mapping(model={"name": name, "preset_of": preset_of}), GROUPS)


def test_an_option_without_default_is_the_programmers_mistake() -> None:
    def broken(*, width: int) -> None: ...

    with pytest.raises(TypeError, match="width has no default"):
        Group("model", {"broken": broken}).options("broken")


def test_config_needs_no_torch() -> None:
    for path in Path(kancl.config.__file__).parent.glob("*.py"):
        assert "import torch" not in path.read_text(), path
