"""One table of all runs, as it is read back."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from kancl.cli import main


def test_a_row_per_run_with_keys_and_metrics(
    plant: Callable[..., list[Path]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = "model=kan,mlp", "seed=range(2)"
    plant(*words, outcome=lambda c: (0.9, 0.5) if c.seed else "diverged")
    target = tmp_path / "runs.csv"
    assert main(["export", str(tmp_path), "--to", str(target)]) == 0
    assert "4 runs" in capsys.readouterr().out
    with open(target, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["diverged", "completed"] * 2
    assert {row["model.name"] for row in rows} == {"kan", "mlp"}
    done = rows[1]
    assert float(done["forgetting"]) == pytest.approx(0.4) and done["seed"] == "1"
    assert done["training.batch_size"] == "128" and done["model.hidden"] == "[64]"
    assert rows[0]["forgetting"] == ""
    parquet = pytest.importorskip("pyarrow.parquet", reason="kancl[parquet]")
    main(["export", str(tmp_path), "--to", str(tmp_path / "runs.parquet")])
    again = parquet.read_table(tmp_path / "runs.parquet").to_pylist()
    assert [row["folder"] for row in again] == [row["folder"] for row in rows]
    assert again[1]["forgetting"] == pytest.approx(0.4) and again[1]["seed"] == 1


@pytest.mark.parametrize(
    ("words", "culprit"),
    [
        (["logs", "--to", "runs.xlsx"], "must end in .csv or .parquet"),
        (["nowhere", "--to", "runs.csv"], "there is no nowhere"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    words: list[str],
    culprit: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", *words]) == 2
    assert culprit in capsys.readouterr().err and not [*tmp_path.iterdir()]


def test_no_spreadsheet_takes_a_strangers_words_for_a_formula(
    plant: Callable[..., list[Path]], tmp_path: Path
) -> None:
    (folder,) = plant("model=mlp", outcome=lambda c: (0.9, 0.5))
    config = folder / "config.yaml"
    words = config.read_text()
    config.write_text(words.replace("name: naive", "name: =cmd()") + "'@key': +1+1\n")
    target = tmp_path / "runs.csv"
    assert main(["export", str(tmp_path), "--to", str(target)]) == 0
    head, row = csv.reader(target.read_text().splitlines())
    found = dict(zip(head, row))
    assert found["strategy.name"] == "'=cmd()" and found["'@key"] == "'+1+1"
