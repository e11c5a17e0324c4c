"""A protocol run in small: what is run, what is written, what is no verdict."""

import os
from pathlib import Path

import pytest

from kancl.cli import main
from kancl.protocols import Judgement, Protocol, Row, read_protocol
from kancl.runner.studies.reproduce import section, write_section

SMALL = [
    "scenario.train_samples=20",
    "scenario.test_samples=20",
    "training.iterations=1",
    "training.batch_size=8",
    "model.hidden=[4]",
]
COMMAND = ["reproduce", "vandeven2022-split", "--rows", "joint", "--seeds", "2"]
RESULTS = Path("docs/results/vandeven2022-split.md")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_rows_are_run_over_seeds_and_written_down(capsys):
    assert main([*COMMAND, *SMALL, "device=cpu"]) == 0
    out = capsys.readouterr().out
    assert out.count("shown") == 2 * 3 and "PASS" not in out and "FAIL" not in out
    text = RESULTS.read_text()
    assert "## vandeven2022-split, altered\n" in text
    assert "| joint | class | 98.17 ± 0.04 |" in text
    assert "`training.iterations=1`" in text and "device=cpu" not in text
    assert "Some rows have fewer seeds than 10." in text
    runs = sorted(path.parent.name for path in Path("logs").glob("*/*/*/summary.json"))
    assert len(runs) == 3 * 2
    assert main([*COMMAND, *SMALL, "device=cpu"]) == 0  # nothing is run again
    assert RESULTS.read_text() == text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["vandeven2021"], "there is no protocol vandeven2021"),
        (["vandeven-permuted", "--rows", "nothing"], "has no row nothing"),
        (["vandeven-permuted", "--seeds", "0"], "--seeds must be at least 1"),
        (["vandeven-permuted", "training.epoch=2"], "nearest: training.epochs"),
        (["gaussian-peaks", "--results", "."], "is a folder; name another file"),
        (["gaussian-peaks", "--results", "/dev/null/R.md"], "in /dev/null, a file"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_run(arguments, says, capsys):
    assert main(["reproduce", *arguments]) == 2
    assert says in capsys.readouterr().err
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("kind", ["pipe", "huge", "bytes"])
def test_results_that_cannot_be_read_are_refused_before_anything_is_run(kind, capsys):
    path = Path("R.md")
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(b"\xff")
        os.truncate(path, 2**33 if kind == "huge" else 1)
    assert main([*COMMAND, *SMALL, "--results", "R.md"]) == 2
    said = capsys.readouterr().err
    assert "--results R.md cannot be read as text" in said and said.count("\n") == 1
    assert list(Path.cwd().iterdir()) == [Path.cwd() / path]


def test_a_section_takes_new_rows_in_and_loses_nothing_else(tmp_path):
    path = tmp_path / "RESULTS.md"
    table = "\n\n| row | ours |\n| --- | --- |\n"
    write_section(path, f"## one{table}| a | 1 |\n| b | 2 |\n\n- A note.\n")
    write_section(path, f"## one-more{table}| a | 3 |\n")
    text = path.read_text()
    path.write_text(text.replace("- A note.", "- A note.\n- By hand."))
    write_section(path, f"## one{table}| b | 4 |\n| c | 5 |\n\n- A note.\n- Another.\n")
    assert path.read_text() == (
        f"# Results\n\n## one{table}| a | 1 |\n| b | 4 |\n| c | 5 |\n\n"
        f"- A note.\n- Another.\n- By hand.\n\n## one-more{table}| a | 3 |\n"
    )
    write_section(path, f"## one-more{table}| a | 6 |\n")
    assert path.read_text().endswith(f"- By hand.\n\n## one-more{table}| a | 6 |\n")


def test_a_row_is_known_by_its_name_and_kind_and_prose_without_a_table_stays(tmp_path):
    path = tmp_path / "RESULTS.md"
    path.write_text("# Results\n\n## one\n\nBy hand.\n")
    table = "## one\n\n| row | incremental | ours |\n| --- | --- | ---: |\n"
    write_section(path, f"{table}| a | task | 1 |\n| a | class | 2 |\n")
    write_section(path, f"{table}| a | class | 3 |\n")
    assert path.read_text() == (
        f"# Results\n\n{table}| a | task | 1 |\n| a | class | 3 |\n\nBy hand.\n"
    )


def test_the_joint_protocol_is_run_beside_mlps_that_match(capsys):
    small = [*SMALL[:2], "training.epochs=1", "match_to.hidden=[4]"]
    command = ["reproduce", "joint-mnist", "--rows", "kan,mlp-width", "--seeds", "1"]
    assert main([*command, *small, "device=cpu", "evaluation.each_epoch=false"]) == 0
    out = capsys.readouterr().out
    assert "kan - " in out and "mlp-width - " in out


def test_the_table_says_what_was_demanded_and_what_came():
    below = Row("a", measure="m", below=0.1)
    judgement = Judgement(below, [0.012, 0.0341], 0)
    protocol = Protocol("p", "who", 2, (), (below,))
    text = section(protocol, [judgement], ["x=1"])
    assert "| a |  | m | < 0.1 | 0.012 to 0.034 | 2 | PASS |" in text
    assert "## p" in text and "NOT the protocol, so no verdict: `x=1`" in text
    assert Judgement(Row("c", measure="m"), [1.0]).cells["ours"] == "1"
    lost = Judgement(below, [], 2).cells
    assert (lost["ours"], lost["seeds"]) == ("none completed", "0 (2 lost)")


def test_the_section_says_what_a_reader_has_to_know():
    protocol = read_protocol("vandeven2022-split")
    row = Row("none", ("strategy=naive",), "task", paper=84.32, sem=0.99)
    ours = [0.84 + shift / 100 for shift in (-(3**0.5), -(3**0.5), 3**0.5, 3**0.5)]
    text = section(protocol, [Judgement(row, ours)], ["x=1"])
    assert "## vandeven2022-split" in text and "Nature Machine Intelligence" in text
    assert (
        "| none | task | 84.32 ± 0.99 | 84.00 ± 1.00 | -0.32 | 4.78 | 4 | PASS |"
        in text
    )
    assert "Some rows have fewer seeds than 10." in text
    assert "NOT the protocol, so no verdict: `x=1`" in text


@pytest.mark.parametrize(
    ("name", "says", "says_not"),
    [
        (
            "vandeven2022-split",
            "at least the most that the paper's seeds",
            "as the paper",
        ),
        ("owm-disjoint", "as the paper gives no error, SEM_paper is s", "at least"),
    ],
)
def test_the_rule_below_a_table_is_that_of_its_paper(name, says, says_not):
    protocol = read_protocol(name)
    text = section(protocol, [Judgement(protocol.rows[0], [0.8, 0.9, 0.85])])
    assert says in text and says_not not in text


def test_a_table_of_single_seeds_says_what_stands_in_for_their_spread():
    protocol = read_protocol("vandeven2022-split")
    row = Row("none", paper=84.32, sem=0.99)
    text = section(protocol, [Judgement(row, [0.84], paper_seeds=20)])
    assert "the paper's stands in" in text


def test_notes_of_before_give_way_where_the_new_ones_say_it(tmp_path):
    """The rule is said once; that rows have few seeds, as long as some old row stays."""
    path, head = tmp_path / "page.md", "## p\n\nwho\n\n| row | ours |\n| --- | --- |\n"
    few = "- Some rows have fewer seeds than 10.\n"
    old = "| a | 1 |\n| b | 2 |\n\n- ± is the standard error, as once.\n" + few
    for rows, keeps in ("| a | 3 |\n", True), ("| a | 3 |\n| b | 4 |\n", False):
        path.write_text(head + old + "- By hand.\n")
        write_section(path, head + rows + "\n- ± is the standard error, as now.\n")
        text = path.read_text()
        assert "as now" in text and "as once" not in text and "- By hand." in text
        assert (few in text) == keeps
