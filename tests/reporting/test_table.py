"""One table, in a terminal, as Markdown, LaTeX and CSV."""

import csv
import io
import re

import pytest
from rich.console import Console

from kancl.metrics.statistics import Interval
from kancl.reporting.table import (
    Column,
    Estimate,
    Table,
    count,
    percent,
    prefixed,
    size,
    wide_console,
)

TABLE = Table(
    "Kept & lost",
    (
        Column("model"),
        Column("average\naccuracy", percent, "%"),
        Column("parameters", count),
    ),
    [
        ["kan", Estimate(0.5, Interval(0.4, 0.6)), 508160],
        ["mlp", Estimate(0.25, note="(1 of 2 runs)"), None],
    ],
    below=[["KAN - MLP", Estimate(0.25, Interval(0.2, 0.3), signed=True), ""]],
    notes=["One seed has no error bar."],
)


def _show(table, **console):
    file = io.StringIO()
    table.show(Console(file=file, **console))
    return re.sub(r"\x1b\[[\d;]*m", "", file.getvalue())


def test_markdown():
    assert TABLE.markdown() == (
        "**Kept & lost**\n\n"
        "| model | average accuracy % | parameters |\n"
        "| --- | ---: | ---: |\n"
        "| kan | 50.0 ± 10.0 | 508,160 |\n"
        "| mlp | 25.0 (1 of 2 runs) | n/a |\n"
        "| **KAN - MLP** | **+25.0 ± 5.0** |  |\n\n"
        "- One seed has no error bar.\n"
    )


def test_latex():
    assert TABLE.latex().splitlines() == [
        r"\begin{table}",
        r"\caption{Kept \& lost}",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"model & average accuracy \% & parameters \\",
        r"\midrule",
        r"kan & 50.0 $\pm$ 10.0 & 508,160 \\",
        r"mlp & 25.0 (1 of 2 runs) & n/a \\",
        r"\midrule",
        r"KAN - MLP & +25.0 $\pm$ 5.0 &  \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"One seed has no error bar.\\",
        r"\end{table}",
    ]


def test_csv_holds_unrounded_numbers():
    table = Table("", TABLE.columns, [["kan", 0.123456789, 508160], ["mlp", None, 2]])
    first, second = csv.DictReader(io.StringIO(table.csv()))
    assert first == {
        "model": "kan",
        "average accuracy %": "0.123456789",
        "parameters": "508160",
    }
    assert second["average accuracy %"] == ""
    rows = list(csv.DictReader(io.StringIO(TABLE.csv())))
    assert [row["average accuracy %"] for row in rows] == ["0.5", "0.25", "0.25"]


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "+1", "-1", "\tx"])
def test_no_spreadsheet_takes_words_for_a_formula(text):
    assert f"'{text}" in Table("", (Column("a"),), [[text]]).csv()


def test_words_of_a_stranger_stay_words():
    text = Table("", (Column("a"),), [["<b>|`*[red]x"]])
    assert r"\<b>\|\`\*[red]x" in text.markdown()
    assert "<b>|`*[red]x" in _show(text)


def test_an_interval_is_shown_by_its_ends_or_half_its_width():
    estimate = Estimate(0.05, Interval(-0.01, 0.11), signed=True, ends=True)
    assert estimate.text(percent) == "+5.0 [-1.0, +11.0]"
    assert Estimate.of([0.1, 0.3]).text(percent) == "20.0 ± 127.1"  # 12.706 * 0.1
    assert Estimate.of([0.1]).text(percent) == "10.0"
    assert Estimate.of([]) is None


def test_a_narrow_terminal_gets_several_tables_that_repeat_the_words():
    assert _show(TABLE, width=80, force_terminal=True).count("model") == 1
    narrow = _show(TABLE, width=34, force_terminal=True)
    assert narrow.count("model") == 2 and "…" not in narrow
    assert max(map(len, narrow.splitlines())) <= 34
    for text in ["50.0 ± 10.0", "508,160", "+25.0 ± 5.0", "no error bar"]:
        assert text in narrow
    assert narrow.count("KAN - MLP") == 1  # where there is something to say of it


def test_a_column_that_wraps_keeps_the_table_whole():
    columns = (Column("row"), Column("what", wraps=True), Column("ours", count))
    table = Table("", columns, [["peaks", "one two three four five", 1000]])
    text = _show(table, width=24, force_terminal=True)
    assert text.count("row") == 1 and "five" in text and "1,000" in text


def test_words_share_a_column_where_the_terminal_is_narrow():
    columns = (Column("model"), Column("strategy"), Column("ours", count))
    columns += (Column("seconds", count, in_files_only=True), Column("v", wraps=True))
    row = ["kan_local", "labels_trick_gram", 1000, 7, "no difference shown"]
    table = Table("", columns, [row], below=[row])
    text = _show(table, width=54, force_terminal=True)
    assert re.search(r"kan_local  labels_trick_gram +1,000 +no difference", text)
    text = _show(table, width=41, force_terminal=True)
    assert "model strategy" in text and "no difference" in text
    assert max(map(len, text.splitlines())) <= 41
    assert "seconds" not in text and "| 7 |" in table.markdown()


@pytest.mark.parametrize("width", range(46, 90))
def test_no_word_is_cut_off_however_narrow(width):
    columns = (Column("settings", wraps=True), Column("ours", percent))
    columns += (Column("theirs", percent), Column("verdict", wraps=True))
    words = "split_mnist train_samples=null test_samples=null head=auto"
    table = Table("", columns, [[words, 0.5, 0.25, "too few seeds"]])
    text = _show(table, width=width, force_terminal=True)
    assert {*f"{words} too few seeds 50.0 25.0".split()} <= {*text.split()}
    assert max(map(len, text.splitlines())) <= width


def test_where_there_is_no_terminal_nothing_is_cut_off():
    assert wide_console(Console(file=io.StringIO(), width=40)).width == 200
    assert "50.0 ± 10.0" in _show(TABLE, width=20)


def test_verdicts_have_their_colours():
    table = Table("", (Column("row"), Column("verdict")), [["a", "PASS"], ["b", "?"]])
    assert [row.style for row in table.rich().rows] == ["green", ""]


def test_a_row_that_does_not_fit_its_columns_is_refused():
    with pytest.raises(ValueError, match="row of 2 cells"):
        Table("", (Column("a"), Column("b")), [["x"]])


@pytest.mark.parametrize(
    ("show", "value", "text"),
    [
        (prefixed, 264_768, "265 k"),
        (prefixed, 12, "12"),
        (prefixed, 1.53e11, "153 G"),
        (size, 1536, "1.5 KiB"),
        (size, 12, "12 B"),
    ],
)
def test_large_numbers_are_short(show, value, text):
    assert show(value) == text
