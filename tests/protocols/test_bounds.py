"""Bounds fail on the wrong side, on a lost run, and where values do not fall."""

import re

import pytest

from kancl.config import ConfigError
from kancl.protocols import (
    Judgement,
    Row,
    judge_fall,
    read_protocol,
)
from kancl.runner.check import check
from kancl.runner.request.compose import read_request

BELOW = Row("a", measure="m", below=0.1)
ABOVE = Row("b", measure="m", above=0.1)
FREE = Row("c", measure="m")


@pytest.mark.parametrize(
    ("row", "values", "n_lost", "verdict"),
    [
        (BELOW, [0.01, 0.09], 0, "PASS"),
        (BELOW, [0.01, 0.11], 0, "FAIL"),  # the worst decides
        (ABOVE, [0.2, 0.11], 0, "PASS"),
        (ABOVE, [0.2, 0.09], 0, "FAIL"),
        (BELOW, [0.01], 1, "FAIL"),
        (BELOW, [], 0, "FAIL"),
        (FREE, [7.0], 0, "shown"),
    ],
)
def test_the_worst_seed_decides(row, values, n_lost, verdict):
    assert Judgement(row, values, n_lost).verdict == verdict


def test_values_have_to_fall_for_every_seed():
    row = Row("falls", measure="m", falls=("a", "b"))
    a, b = Judgement(FREE, [3.0, 2.0]), Judgement(FREE, [1.0, 1.5])
    assert judge_fall(row, {"a": a, "b": b}).verdict == "PASS"
    worse = Judgement(FREE, [1.0, 2.0])
    assert judge_fall(row, {"a": a, "b": worse}).verdict == "FAIL"
    assert judge_fall(row, {"a": a, "b": Judgement(FREE, [], 2)}).verdict == "FAIL"


def test_every_row_can_be_run():
    protocol = read_protocol("gaussian-peaks")
    kinds = {}  # composing takes a tenth of a second
    for row in protocol.rows:
        assert bool(row.falls) != bool(row.settings)
        if row.falls:
            assert set(row.falls) <= {other.name for other in protocol.rows}
            continue
        words = " ".join(row.settings)
        kinds[re.sub(r"(size|degree)=\d+", "", words)] = row
    for row in kinds.values():
        check(read_request([*protocol.settings, *row.settings], sweep=False).configs)


def test_a_comparison_brings_the_rows_it_compares():
    protocol = read_protocol("gaussian-peaks")
    rows = [row.name for row in protocol.chosen(["falls-with-g"])]
    assert rows == ["g5", "g10", "g20", "g50", "g100", "falls-with-g"]
    with pytest.raises(ConfigError, match="has no row g60; nearest: g50"):
        protocol.chosen(["g60"])
    with pytest.raises(ConfigError, match="nearest: gaussian-peaks"):
        read_protocol("gausian-peaks")
