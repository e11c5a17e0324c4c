"""The device is timed, small, on the CPU: where there is no GPU the script cannot rot."""

import csv
import sys
from pathlib import Path

import pytest

from kancl.bench import device
from kancl.bench.device import MEASUREMENTS, bench_device
from kancl.bench.harness import main


def test_everything_is_measured_that_a_cpu_can(tmp_path: Path) -> None:
    path = tmp_path / "device.csv"
    assert main(bench_device, ["--device", "cpu", "--small", f"--csv={path}"]) == 0
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert not any(row["verdict"] for row in rows)  # targets are a GPU's
    not_run = [row["what"] for row in rows if row["result"].startswith("not run")]
    assert not_run == ["graphs", "compiled", "streams"]
    words = " ".join(row["what"] for row in rows)
    for what in ("fastest KAN (dense) / equal MLP", "10 seeds by vmap", "Split MNIST"):
        assert what in words


def test_without_avalanche_the_layers_are_measured_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "kancl.runner.run", None)
    *_, last = bench_device(device="cpu", small=True, only=["vmap", "runs"])
    assert last[0]["result"].startswith("not run: kancl.runner")
    assert not last[0]["verdict"]


def test_what_breaks_is_a_failed_row_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(device: str, small: bool):
        yield device_row
        raise RuntimeError("out of memory")

    device_row = {"what": "a", "result": "1", "target": "", "verdict": ""}
    monkeypatch.setitem(MEASUREMENTS, "steps", broken)
    tables = list(bench_device(device="cpu", small=True, only=["steps", "vmap"]))
    assert [rows[0]["verdict"] for rows in tables] == ["", "", "FAIL", ""]
    assert tables[2][0]["result"] == "RuntimeError: out of memory"
    assert device._at_most("cuda", "b", 3.0, 2.0)["verdict"] == "FAIL"
    assert device._at_most("cpu", "b", 3.0, 2.0)["verdict"] == ""
