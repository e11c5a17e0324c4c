"""Builders by name, sums of them and presets: their keys, defaults and help."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from kancl.config import ConfigError, Group, Preset
from kancl.config.docstrings import argument_help, summary


class Base:
    """Anything.

    Args:
        seed: of its draws.
        alpha: overridden below.
    """


class Distil(Base):
    """Distil the old outputs.

    A second paragraph.

    Args:
        alpha: strength of ``alpha``, over
            two lines.
        temperature: T.

    Shape: none.
        not: an argument
    """

    def __init__(
        self, *, alpha: float = 1.0, temperature: float = 2.0, seed: int = 0
    ) -> None: ...


def replay(setup: object, *, alpha: float = 0.1, mem_size: int = 1000) -> None:
    """Replay.

    Args:
        alpha, mem_size: as for :class:`~tests.config.test_groups.Distil`.
    """


def plain(
    setup: object, *, kind: Literal["a", "b"] = "a", temperature: int = 1
) -> None:
    """Nothing. The rest is in :class:`tests.config.test_groups.Distil`."""


BUILDERS = {"lwf": [Distil], "replay": [replay], "plain": [plain]}


@pytest.fixture
def group() -> Group:
    tuned = {
        "strong": Preset("strong", "lwf+replay", "Both.", {"lwf.alpha": 9.0}, {}),
        "warm": Preset("warm", "lwf", "", {"temperature": 5.0}, {}),
    }
    return Group("strategy", BUILDERS, {"seed"}, True, lambda: tuned)


def test_help_is_read_from_the_docstrings_of_a_class_and_its_bases() -> None:
    assert argument_help(Distil) == {
        "alpha": "strength of alpha, over two lines.",
        "temperature": "T.",
        "seed": "of its draws.",
    }
    assert argument_help(replay)["mem_size"] == "as for Distil."
    assert argument_help(plain)["temperature"] == "T."  # of the class it names
    assert summary(Distil) == "Distil the old outputs."
    assert argument_help(lambda: None) == {} and summary(lambda: None) == ""


def test_a_name_has_the_options_of_its_signature(group: Group) -> None:
    assert group.defaults("lwf") == {"alpha": 1.0, "temperature": 2.0}
    assert group.options("lwf")["alpha"].help == "strength of alpha, over two lines."
    assert group.options("plain")["kind"].kind == "a|b"
    assert group.names == ["lwf", "replay", "plain", "strong", "warm"]


def test_equal_names_in_a_sum_are_told_apart(group: Group) -> None:
    assert group.defaults("lwf+replay") == {
        "lwf.alpha": 1.0,
        "temperature": 2.0,
        "replay.alpha": 0.1,
        "mem_size": 1000,
    }
    values = {"lwf.alpha": 3.0, "replay.alpha": 4.0, "mem_size": 5}
    dealt = [(part.name, v) for part, v in group.split("lwf+replay", values)]
    assert dealt == [("lwf", {"alpha": 3.0}), ("replay", {"alpha": 4.0, "mem_size": 5})]
    assert group.summary("lwf+replay") == "Distil the old outputs. + Replay."


@pytest.mark.parametrize(
    ("name", "built", "tuned"),
    [
        ("strong", "lwf+replay", {"lwf.alpha": 9.0, "replay.alpha": 0.1}),
        ("warm", "lwf", {"alpha": 1.0, "temperature": 5.0}),
        ("strong+plain", "lwf+replay+plain", {"lwf.alpha": 9.0, "kind": "a"}),
        ("warm+plain", "lwf+plain", {"lwf.temperature": 5.0, "plain.temperature": 1}),
    ],
)
def test_a_preset_is_a_builder_with_defaults_of_its_own(
    group: Group, name: str, built: str, tuned: dict[str, Any]
) -> None:
    assert group.expanded(name) == built
    assert group.defaults(name).items() >= tuned.items()
    assert group.defaults(name).keys() == group.defaults(built).keys()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("lwf+repaly", "there is no strategy=lwf+repaly; nearest: replay"),
        ("", "there is no strategy="),
        (["lwf"], "there is no strategy"),
    ],
)
def test_what_stands_for_nothing_is_refused(group: Group, name: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says.replace("+", r"\+")):
        group.options(name)


def test_a_key_that_no_part_has_is_refused(group: Group) -> None:
    with pytest.raises(
        ConfigError, match="strategy.alhpa is not .*; nearest: lwf.alpha"
    ):
        group.split("lwf+replay", {"alhpa": 1})
