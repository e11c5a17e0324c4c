"""The device is timed, small, on the CPU: where there is no GPU the script cannot rot."""

import csv
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from kancl.bench import device
from kancl.bench.device import MEASUREMENTS, NEED_CUDA, bench_device
from kancl.bench.device_steps import at_most
from kancl.bench.harness import main
from tests.device.pretend_device import pretend_device

QUICK = ["determinism", "waits", "launches", "steps", "runs", "vmap"]


def test_what_needs_no_process_of_its_own_is_measured_on_a_cpu(tmp_path: Path) -> None:
    path = tmp_path / "device.csv"
    words = ["--device", "cpu", "--small", f"--csv={path}", "--only", *QUICK]
    assert main(bench_device, words) == 0
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert rows[0]["result"].startswith("no GPU: a CPU's rows have no verdict, torch")
    assert not any(row["verdict"] for row in rows)  # targets are a GPU's
    not_run = [row["what"] for row in rows if row["result"].startswith("not run")]
    assert not_run == ["waits", "launches"]
    words = " ".join(row["what"] for row in rows)
    assert "fastest KAN (dense) / equal MLP" in words
    assert "10 seeds by vmap" in words and "a run of split_mnist" in words


@pytest.mark.proof
def test_everything_is_measured_that_a_cpu_can(tmp_path: Path) -> None:
    path = tmp_path / "device.csv"
    assert main(bench_device, ["--device", "cpu", "--small", f"--csv={path}"]) == 0
    rows = list(csv.DictReader(path.read_text().splitlines()))
    not_run = {row["what"] for row in rows if row["result"].startswith("not run")}
    assert not_run == NEED_CUDA
    found = {row["what"]: row["result"] for row in rows}
    assert found["a killed run, resumed"] == "the same bytes"
    assert "times the runs per hour" in found["2 processes, a run each, start included"]


class Profile:
    """Torch's own needs a driver."""

    def __init__(self, **options: object) -> None:
        pass

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def events(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(device_type=torch.autograd.DeviceType.CUDA)] * 3


def rows_on_a_card(
    monkeypatch: pytest.MonkeyPatch, *checks: str
) -> dict[str, dict[str, str]]:
    monkeypatch.setattr(device, "profile", Profile)
    with pretend_device():
        tables = [*bench_device(device="cuda", small=True, only=checks)]
    rows = {rows[0]["what"]: dict(rows[0]) for rows in tables}
    assert rows.pop("device")["result"].startswith("pretend, torch")
    assert {row["verdict"] for row in rows.values()} <= {"PASS", ""}
    return rows


def test_it_runs_on_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_on_a_card(monkeypatch, "determinism", "launches")
    assert rows["parameters that differ, trained twice, triton"]["result"] == "0"
    kernels = "kernels of a step, batch 4, triton / equal MLP"
    assert rows[kernels]["result"] == "1.00 (3 / 3)"


@pytest.mark.proof
def test_all_but_graphs_and_processes_run_on_a_card(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = rows_on_a_card(monkeypatch, "equality", "waits", "memory", "runs")
    assert rows["waits in an epoch, model=kan_local, naive"]["verdict"] == "PASS"
    assert rows["largest relative error, bfloat16, triton"]["verdict"] == "PASS"
    assert "MiB" in rows["a run of split_mnist, model=kan"]["result"]


def test_nothing_is_begun_once_the_budget_is_spent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def endless(device: str, small: bool):
        while True:
            time.sleep(0.05)
            yield device_row

    device_row = {"what": "a", "result": "1", "target": "", "verdict": ""}
    monkeypatch.setitem(MEASUREMENTS, "steps", endless)
    tables = bench_device(device="cpu", budget=0.2, only=["steps", "vmap"])
    results = [rows[0]["result"] for rows in tables][1:]
    assert 1 <= results.count("1") <= 5
    assert results[-2:] == ["not run, or not all: 0.2 s are over"] * 2


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
    assert at_most("cuda", "b", 3.0, 2.0)["verdict"] == "FAIL"
    assert at_most("cpu", "b", 3.0, 2.0)["verdict"] == ""
