"""Values are converted to the declared type or refused with the nearest right one."""

from collections.abc import Sequence
from typing import Any, Literal

import pytest

from kancl.config.values import ConfigError, convert, describe, nearest


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (3, int, 3),
        (1e4, int, 10000),
        (3, float, 3.0),
        (True, bool, True),
        ("a", str, "a"),
        (2024, str, "2024"),
        (None, int | None, None),
        (3, int | None, 3),
        (3, float | None, 3.0),
        ([1, 2.0], Sequence[int], (1, 2)),
        ([], Sequence[int], ()),
        ([0, 1], tuple[float, float], (0.0, 1.0)),
        ([4], list[int], (4,)),
        ("unit", Literal["none", "unit"], "unit"),
        (None, Literal["a"] | None, None),
        ([1], Sequence[int] | None, (1,)),
        ("all", int | Literal["all"], "all"),
    ],
)
def test_right_values(value: Any, annotation: Any, expected: Any) -> None:
    result = convert(value, annotation, "k")
    assert result == expected and type(result) is type(expected)


@pytest.mark.parametrize(
    ("value", "annotation", "says"),
    [
        ("abc", int, "k takes int, not abc"),
        (2.5, int, "nearest: k=2"),
        (True, int, "not true"),
        (float("inf"), float, "takes float"),
        (float("nan"), int, "takes int"),
        ("1", bool, "nearest: k=true"),
        (1, bool, "nearest: k=true"),
        (None, float, "not null"),
        (400, Sequence[int], "takes list of int, not 400; nearest: 'k=[400]'"),
        ([1, "a"], Sequence[int], "not [1,a]"),
        ([1], tuple[float, float], "takes [float, float], not [1]"),
        ("untt", Literal["none", "unit"], "nearest: k=unit"),
        ("xx", Literal["none", "unit"], "not one of none, unit"),
        (True, Literal[1, 2], "not one of 1, 2"),
        ("x", int | None, "k takes int, not x"),
        ("x", int | float | None, "takes int or float or null"),
        ({"a": 1}, str, "takes str"),
        ("", int, "an empty value"),
    ],
)
def test_wrong_values(value: Any, annotation: Any, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        convert(value, annotation, "k")
    assert says in str(error.value)


def test_a_type_no_configuration_can_hold_is_the_programmers_mistake() -> None:
    with pytest.raises(TypeError, match="cannot hold"):
        describe(dict)


def test_nearest_lists_all_where_none_is_near() -> None:
    assert nearest("modle", ["model", "seed"]) == "nearest: model"
    assert nearest("zzz", ["model", "seed"]) == "one of: model, seed"
    assert nearest("zzz", []) == "there are none"
